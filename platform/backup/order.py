"""In which order streams are saved, so that what is restored agrees.

Each is saved as it stands at its own moment, so what refers to another has to be saved on the
right side of it:

- Before the log: the journal of usage, so that of every charge the log has the attempt, and the
  steps before it (the charges of later steps are sorted out: see `late_charges`). Schedules: a
  time that came meanwhile comes again, and finds its task, whose id follows from it.
  Snapshots of long tasks: one that is behind is read on, one ahead would tell what never was.
- After the log: everything that it refers to, which was there before it was referred to: large
  content, versions of agents. Budgets, alerts, keys of callers and what else there is: the later,
  the better.
"""

from collections.abc import Sequence
from typing import Final

from meshkit.bus_blobs import STREAM as BLOBS

JOURNAL: Final = "USAGE"
_LOG: Final = "TASKS"
_BEFORE: Final = ("LAYOUT", "SCHEDULES", "SNAPSHOTS", JOURNAL)


def is_log(stream: str) -> bool:
    """Whether it holds events of tasks."""
    return stream == _LOG or stream.startswith(f"{_LOG}-")


def in_order(streams: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Those before the log, the log, and those after it."""
    before = [each for each in _BEFORE if each in streams]
    log = sorted(each for each in streams if is_log(each))
    after = sorted(
        (each for each in streams if each not in (*before, *log)),
        # Nothing is as large, or removed as quickly.
        key=lambda each: (each != BLOBS, each),
    )
    return before, log, after
