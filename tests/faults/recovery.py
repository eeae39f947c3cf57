"""How long tasks stand still whose executor has died."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults.trap import Sprung
from tests.faults.verdict import Ended


@dataclass(frozen=True, slots=True)
class Recovery:
    """One task after the death of its executor, in seconds from then."""

    taken_over: float
    ended: float


def recoveries(sprung: Sprung, ended: Mapping[str, Ended]) -> list[Recovery]:
    """One for each task at whose effect a trap has sprung."""
    by_id = {each.id: each for each in ended.values()}
    found: list[Recovery] = []
    for effect, died in sprung.at:
        task = by_id[effect.task_id]
        times = [
            event.time.ToNanoseconds() / 1e9 - died
            for event in task.events
            if event.HasField("started") and event.time.ToNanoseconds() / 1e9 > died
        ]
        found.append(Recovery(times[0], task.task.end_time.ToNanoseconds() / 1e9 - died))
    return found
