"""The picture of who calls whom is what the code does."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_STUB: Final = re.compile(r"agentmesh\.(\w+)\.v1(?:\.\w+_pb2_grpc| import \w+_pb2_grpc)")
_ROW: Final = re.compile(r"^\| (\w+) \| (\w+) \| ", re.M)
_ARROW: Final = re.compile(r"^    (\w+) -- \"[^\"]+\" --> (\w+)", re.M)


def _services() -> set[str]:
    return {path.name for path in (_ROOT / "services").iterdir() if path.is_dir()}


def _calls_in_code() -> set[tuple[str, str]]:
    # The coordinator serves contracts of no service's name as well: those of access.
    services = _services()
    found: set[tuple[str, str]] = set()
    for path in (_ROOT / "services").rglob("*.py"):
        service = path.relative_to(_ROOT / "services").parts[0]
        for part in _STUB.findall(path.read_text("utf-8")):
            if part in services - {service}:
                found.add((service, part))
    return found


def test_the_table_names_every_call_and_no_other() -> None:
    """Each row of docs/architecture.md is a stub that is imported, and the reverse."""
    page = (_ROOT / "docs/architecture.md").read_text("utf-8")
    services = _services()
    rows = {row for row in _ROW.findall(page) if set(row) <= services}
    assert rows == _calls_in_code()


def test_the_picture_shows_the_same_calls_as_the_table() -> None:
    """Arrows between services are the rows of the table."""
    page = (_ROOT / "docs/architecture.md").read_text("utf-8")
    services = _services()
    arrows = {arrow for arrow in _ARROW.findall(page) if set(arrow) <= services}
    assert arrows == {row for row in _ROW.findall(page) if set(row) <= services}


def test_no_service_calls_itself_over_others() -> None:
    """The graph of calls has no circle."""
    calls = _calls_in_code()
    while leaves := {callee for _, callee in calls} - {caller for caller, _ in calls}:
        calls = {(caller, callee) for caller, callee in calls if callee not in leaves}
    assert not calls
