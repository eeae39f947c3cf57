"""How many processes each part may have, and what they are called."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tier.failures import BadOptions

MOST: Final = 16
# What has numbers also where there is one alone.
_NUMBERED: Final = "executor"
# Parts that keep no files, of which there may be several.
_ANY_NUMBER: Final = ("governor", "reasoning", "tool", "executor")
# Of these there may be several where what they keep is elsewhere, as these settings say.
_WHERE_SHARED: Final[Mapping[str, tuple[str, str]]] = {
    "coordinator": (
        "read_model",
        "its read model is a file: coordinator.read_model may name a PostgreSQL",
    ),
    "memory": ("qdrant_url", "its vectors are files: memory.qdrant_url may name a Qdrant"),
}


def check(wanted: Mapping[str, int], sections: Mapping[str, Any]) -> None:
    """Raises BadOptions unless each part may have as many processes.

    `wanted`: by part. `sections`: the settings of each part.
    """
    for part, count in wanted.items():
        check_part(part)
        if not 1 <= count <= MOST:
            raise BadOptions(f"{count} processes of {part} make no sense: choose 1 to {MOST}.")
        if count > 1 and not _may_be_several(part, sections):
            raise BadOptions(f"There can be one {part} alone, for {_WHERE_SHARED[part][1]}.")


def check_part(part: str) -> None:
    """Raises BadOptions unless there is such a part."""
    if part not in _ANY_NUMBER and part not in _WHERE_SHARED:
        parts = ", ".join(sorted((*_ANY_NUMBER, *_WHERE_SHARED)))
        raise BadOptions(f"The mesh has no part {part!r}: choose among {parts}.")


def possible(counts: Mapping[str, int], sections: Mapping[str, Any]) -> Mapping[str, int]:
    """Those of the counts that these settings allow."""
    return {part: count for part, count in counts.items() if _may_be_several(part, sections)}


def _may_be_several(part: str, sections: Mapping[str, Any]) -> bool:
    if part not in _WHERE_SHARED:
        return True
    setting, _ = _WHERE_SHARED[part]
    return bool(sections.get(part, {}).get(setting))


def names(part: str, count: int) -> tuple[str, ...]:
    """What the processes of a part are called when it starts with so many."""
    if count == 1 and part != _NUMBERED:
        return (part,)
    return tuple(f"{part}-{number}" for number in range(1, count + 1))


def more_names(part: str, present: Sequence[str], count: int) -> tuple[str, ...]:
    """Names for as many processes more as make it `count`."""
    # The one without a number is the first.
    numbers = (number for number in range(2 if part in present else 1, count + MOST + 1))
    free = (name for number in numbers if (name := f"{part}-{number}") not in present)
    return tuple(next(free) for _ in range(count - len(present)))
