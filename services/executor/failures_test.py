"""What an error of each class leads to."""

from typing import Final

import grpc
import pytest

from meshkit import errors
from meshkit.errors import MeshError
from services.executor.failures import Consequence, consequence

_RETRIED: Final = {
    "BREAKER_OPEN",
    "CONFLICT",
    "DEADLINE_EXCEEDED",
    "DEPENDENCY_UNAVAILABLE",
    "INTERNAL",
    # An instance of a later version may answer.
    "NEWER_FORMAT",
    "PROVIDER_FAILED",
    "SHUTTING_DOWN",
}
_BURIED: Final = {"CORRUPT_DATA"}
_CLASSES: Final[list[type[MeshError]]] = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, MeshError) and hasattr(each, "reason")
]


def _error(cls: type[MeshError], **more: object) -> MeshError:
    error = cls.__new__(cls)
    MeshError.__init__(error, "x", **more)  # pyright: ignore[reportArgumentType]
    return error


def test_every_reason_has_its_place_in_this_table() -> None:
    """A reason that is new has to be thought about."""
    assert {cls.reason for cls in _CLASSES} == errors.reasons()


@pytest.mark.parametrize("cls", _CLASSES, ids=lambda cls: cls.reason)
def test_only_what_may_pass_is_tried_again(cls: type[MeshError]) -> None:
    """Errors of size, of validation, of rights and of money come again, and end the task."""
    if cls.reason in _RETRIED:
        expected = Consequence.RETRY
    elif cls.reason in _BURIED:
        expected = Consequence.DEAD_LETTER
    else:
        expected = Consequence.FAIL
    assert consequence(_error(cls)) is expected


@pytest.mark.parametrize("cls", [errors.TooLarge, errors.InvalidField], ids=["size", "field"])
def test_size_and_validation_are_final_even_with_a_hint_to_retry(cls: type[MeshError]) -> None:
    """A service that says when to come back does not change what was sent."""
    assert consequence(_error(cls, retry_after_seconds=1.0)) is Consequence.FAIL


@pytest.mark.parametrize("cls", [errors.RateLimited, errors.QueueFull], ids=["rate", "queue"])
def test_a_quota_that_says_when_to_come_back_is_tried_again(cls: type[MeshError]) -> None:
    """Without such a word it is final."""
    assert consequence(_error(cls, retry_after_seconds=1.0)) is Consequence.RETRY


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("call", Consequence.RETRY),
        ("step", Consequence.RETRY),
        ("tool", Consequence.FAIL),
        ("task", Consequence.FAIL),
    ],
)
def test_time_limits_of_calls_and_steps_are_tried_again(limit: str, expected: Consequence) -> None:
    """That of a task is its end."""
    error = errors.DeadlineExceeded("x", metadata={"limit": limit})
    assert consequence(error) is expected


def test_a_bare_error_of_a_library_is_final() -> None:
    """Nothing is known of it."""
    error = errors.ForeignError(grpc.StatusCode.UNKNOWN, "x")
    assert consequence(error) is Consequence.FAIL
