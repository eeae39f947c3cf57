"""What a step of a schema may do, so that programs of the release before work with its tables.

A step is called `NUMBER.OLDEST` and names its `release`: see platform/sqlstore/schema.py. What is
to go takes three releases: one adds what takes its place, the next one no longer uses it and says
so in `unused` of a step, the third takes it away.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa

# Takes away, or changes, what programs of before use.
_TAKING: Final = frozenset({"drop_table", "drop_column", "rename_table"})
_TAKING_SQL: Final = re.compile(r"\b(ALTER|DROP|RENAME|TRUNCATE)\b", re.I)
# Refuses what programs may write that do not know of it.
_REFUSING: Final = frozenset(
    {"create_unique_constraint", "create_check_constraint", "create_foreign_key"}
)
_NAME: Final = re.compile(r"\d{4}(\.\d{4})?")


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as its file has it."""

    revision: str
    # Of Agentmesh, such as `0.2.0`; empty for those before the first.
    release: str
    # Tables, and columns as `table.column`, that programs of its release use no longer.
    unused: tuple[str, ...]
    # What it does: a function of Alembic's, and what that is told.
    calls: Sequence["Call"]

    @property
    def number(self) -> str:
        """Its place."""
        return self.revision.partition(".")[0]

    @property
    def oldest(self) -> str:
        """The first step whose programs its tables serve; empty where it names none."""
        return self.revision.partition(".")[2]


@dataclass(frozen=True, slots=True)
class Call:
    """One thing that a step does."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class _Recorder:
    """Stands for Alembic's `op`, and for what that gives out: does nothing, and keeps what."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        def record(*arguments: Any, **options: Any) -> "_Recorder":
            self._calls.append(Call(name, arguments, options))
            return self

        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        pass


def read_steps(folder: Path) -> Sequence[Step]:
    """The steps in a folder, in order."""
    found: list[Step] = []
    for file in sorted(folder.glob("r*.py")):
        spec = importlib.util.spec_from_file_location(f"step_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ValueError(f"{file} cannot be imported")
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        calls: list[Call] = []
        module.op = _Recorder(calls)
        module.upgrade()
        release, unused = getattr(module, "release", ""), getattr(module, "unused", ())
        found.append(Step(module.revision, release, unused, calls))
    return found


def faults(steps: Sequence[Step], *, unnamed: int, version: str) -> list[str]:
    """What would break a program of the release before; a sentence each.

    Args:
        steps: All of one schema, in order.
        unnamed: How many there were before the first release: of those nothing is asked.
        version: Of Agentmesh as it is.
    """
    found: list[str] = []
    for number, step in enumerate(steps, start=1):
        if step.number != f"{number:04}" or not _NAME.fullmatch(step.revision):
            found.append(f"{step.revision}: the step in this place is called {number:04}.OLDEST.")
        elif number > unnamed:
            found += (f"{step.revision}: {each}" for each in _of(step, steps, version))
    return found


def _of(step: Step, steps: Sequence[Step], version: str) -> Iterator[str]:
    if not step.release or _key(step.release) > _key(version):
        yield f"name its release, at most {version}, in a line `release = ...`."
        return
    if not step.oldest:
        yield "name the oldest step whose programs its tables serve, as in 0006.0004."
        return
    before = [each for each in steps if _key(each.release) < _key(step.release)]
    if before and step.oldest > before[-1].number:
        yield (
            f"programs of the release before know the tables of {before[-1].number} and would not"
            " be served: what they use goes a release later."
        )
    unused = {what for each in before if each.number <= step.oldest for what in each.unused}
    made = {each.arguments[0] for each in step.calls if each.name == "create_table"}
    for call in step.calls:
        is_unique = call.name == "create_index" and call.options.get("unique", False)
        if (call.name in _REFUSING or is_unique) and call.arguments[1] not in made:
            yield f"{call.name} refuses what programs write that do not know of it."
        if call.name == "execute" and _TAKING_SQL.search(str(call.arguments[0])):
            yield "what changes a table is said by functions of Alembic's, which can be checked."
        yield from (
            f"the column {each.name!r} is NOT NULL without a server_default: programs that do not"
            " know it could not insert."
            for each in call.arguments
            if call.name == "add_column" and _is_demanded(each)
        )
        gone = _taken_away(call)
        if gone and gone not in unused:
            yield (
                f"{call.name} takes away {gone}, which no step of an earlier release that programs"
                f" of {step.oldest} have names as unused."
            )


def _is_demanded(column: object) -> bool:
    return isinstance(column, sa.Column) and not column.nullable and column.server_default is None


def _taken_away(call: Call) -> str:
    """What programs cannot use any more after it, or not as before; empty for nothing."""
    if call.name == "alter_column":
        is_narrower = call.options.get("nullable") is False or bool(
            {"new_column_name", "type_"} & call.options.keys()
        )
        return ".".join(call.arguments[:2]) if is_narrower else ""
    if call.name in _TAKING:
        return ".".join(call.arguments[:2] if call.name == "drop_column" else call.arguments[:1])
    return ""


def _key(release: str) -> tuple[int, ...]:
    return tuple(int(each) for each in release.split(".")) if release else ()
