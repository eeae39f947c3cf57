"""What happened to the tasks of a load, and its summary by windows and seconds."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from bench.tasks.latencies import Latencies
from bench.tasks.load import Outcome, Second, Window

# Errors whose texts are kept apart; others count as one.
_KINDS_OF_ERRORS: Final = 20
_OTHER_ERRORS: Final = "other errors"


class Record:
    """Takes down each task as it ends. All times are in seconds from the load's beginning."""

    def __init__(self, marks: Sequence[float]) -> None:
        """`marks`: the beginning of the first window, and the end of each."""
        self._marks: Final = marks
        self._submitted = 0
        self._succeeded = 0
        self._refused = 0
        self._errors: Final[dict[str, int]] = {}
        self._completed: Final = [0] * (len(marks) - 1)
        self._latencies: Final[list[dict[str, Latencies]]] = [{} for _ in marks[1:]]
        self._by_second: Final[dict[int, list[float]]] = {}
        self._completed_by_second: Final[dict[int, int]] = {}

    @property
    def ended(self) -> int:
        """Tasks of which nothing more is expected."""
        return self._succeeded + sum(self._errors.values())

    @property
    def failed(self) -> int:
        """Those among them that came to no good end."""
        return sum(self._errors.values())

    def submitted(self) -> None:
        """A task was given to the mesh."""
        self._submitted += 1

    def succeeded(self, tenant: str, began: float, ended: float) -> None:
        """A task has ended well. `began`: when it was submitted, or was meant to be."""
        self._succeeded += 1
        if (window := self._window(ended)) is not None:
            self._completed[window] += 1
        if (window := self._window(began)) is not None:
            self._latencies[window].setdefault(tenant, Latencies()).record(ended - began)
        self._by_second.setdefault(int(began), []).append(ended - began)
        self._completed_by_second[int(ended)] = self._completed_by_second.get(int(ended), 0) + 1

    def refused(self) -> None:
        """A task was over its tenant's limits, as it was meant to be."""
        self._refused += 1

    def failed_with(self, text: str) -> None:
        """A task was not accepted, or came to no good end."""
        if text not in self._errors and len(self._errors) >= _KINDS_OF_ERRORS:
            text = _OTHER_ERRORS
        self._errors[text] = self._errors.get(text, 0) + 1

    def outcome(self) -> Outcome:
        """All of it."""
        last = max([*self._by_second, *self._completed_by_second], default=-1)
        return Outcome(
            submitted=self._submitted,
            succeeded=self._succeeded,
            refused=self._refused,
            errors=self._errors,
            windows=tuple(
                Window(
                    seconds=end - begin,
                    completed=completed,
                    latencies={tenant: each.encode() for tenant, each in latencies.items()},
                )
                for begin, end, completed, latencies in zip(
                    self._marks, self._marks[1:], self._completed, self._latencies, strict=False
                )
            ),
            seconds=tuple(self._second(number) for number in range(last + 1)),
        )

    def _window(self, time: float) -> int | None:
        """The window that a time lies in; None for the warm-up and what comes after the last."""
        number = bisect_right(self._marks, time) - 1
        return number if 0 <= number < len(self._completed) else None

    def _second(self, number: int) -> Second:
        latencies = sorted(self._by_second.get(number, ()))
        return Second(
            began=len(latencies),
            completed=self._completed_by_second.get(number, 0),
            p50_ms=_percentile_ms(latencies, 50),
            p99_ms=_percentile_ms(latencies, 99),
        )


def _percentile_ms(ordered: Sequence[float], percent: int) -> float:
    """What so many percent took at the most: the smallest value that is at least as long."""
    if not ordered:
        return 0.0
    return round(ordered[-(-len(ordered) * percent // 100) - 1] * 1000, 3)
