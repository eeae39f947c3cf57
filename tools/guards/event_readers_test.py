"""Stored events are read in one place, where those of earlier versions become today's."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
# Where bytes become an event.
_READS: Final = re.compile(r"\b(?:TaskEvent|SnapshotEvents)\.FromString\(")
_ALLOWED: Final = {
    "platform/tasklog/formats.py",
    # It passes each event on to that.
    "services/executor/snapshots_jetstream.py",
}


def _shipped() -> list[Path]:
    """The files of what is shipped: tests and stand-ins may look at what is stored as it is."""
    return [
        file
        for folder in ("platform", "services")
        for file in sorted((_ROOT / folder).rglob("*.py"))
        if not file.name.endswith(("_test.py", "_world.py", "_bench.py"))
    ]


def test_nobody_reads_stored_events_past_the_formats() -> None:
    """Whoever did would misread what an earlier or a later version wrote."""
    readers = {
        str(file.relative_to(_ROOT))
        for file in _shipped()
        if _READS.search(file.read_text("utf-8"))
    }
    assert readers == _ALLOWED
