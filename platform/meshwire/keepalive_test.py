"""Who is gone is found out, and nobody else is taken for gone."""

import asyncio
from typing import Any, cast

from meshwire.keepalive import Keepalive


class _Loop:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        timer = (self.now + delay, asyncio.Handle(callback, args, cast(Any, self)))
        self._timers.append(timer)
        return timer[1]

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((each for each in self._timers if each[0] <= end), key=lambda x: x[0]):
            self._timers.remove(due[0])
            self.now, handle = due[0]
            if not handle.cancelled():
                handle._run()
        self.now = end

    def get_debug(self) -> bool:
        return False


class _Connection:
    """One that may be silent, or answer when it is asked."""

    def __init__(self, *, answers: bool = False, watched: bool = True) -> None:
        self.loop = _Loop()
        self.heard_at = 0.0
        self.answers = answers
        self.watched = watched
        self.gave_up_at: float | None = None
        self.keepalive = Keepalive(self, cast(Any, self.loop), seconds=60, timeout_seconds=10)
        self.keepalive.begin()

    def is_watched(self) -> bool:
        return self.watched

    def ask(self) -> None:
        if self.answers:
            self.loop.call_later(1, self.hear)

    def hear(self) -> None:
        self.heard_at = self.loop.now

    def give_up(self) -> None:
        self.gave_up_at = self.loop.now
        self.keepalive.end()


def test_who_does_not_answer_is_given_up() -> None:
    """Once it has had the time for it."""
    connection = _Connection()
    connection.loop.move(1000)
    assert connection.gave_up_at == 70
    assert connection.keepalive.sent == 1


def test_who_answers_is_asked_again_when_it_is_silent() -> None:
    """A minute after it was heard last."""
    connection = _Connection(answers=True)
    connection.loop.move(1000)
    assert connection.gave_up_at is None
    assert 14 <= connection.keepalive.sent <= 17


def test_who_speaks_is_not_asked() -> None:
    """It is there."""
    connection = _Connection()
    for _ in range(100):
        connection.loop.move(50)
        connection.hear()
    assert connection.keepalive.sent == 0


def test_for_whom_nobody_waits_is_not_asked() -> None:
    """Until somebody does."""
    connection = _Connection(watched=False)
    connection.loop.move(1000)
    assert connection.keepalive.sent == 0
    connection.watched = True
    connection.loop.move(20)
    assert connection.gave_up_at is not None


def test_a_connection_that_has_ended_is_left_alone() -> None:
    """Nothing is due any more."""
    connection = _Connection()
    connection.keepalive.end()
    connection.loop.move(1000)
    assert connection.keepalive.sent == 0
