"""Tests of the errors and of their way over the wire."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors.v1 import reasons_pb2
from meshkit import error_reasons, errors
from meshkit.errors import MeshError

_CLASSES = [
    each
    for each in vars(error_reasons).values()
    if isinstance(each, type)
    and issubclass(each, MeshError)
    and each not in (MeshError, errors.ForeignError)
]
_TEXT = st.text(max_size=40)


def _make(cls: type[MeshError], message: str, **details: object) -> MeshError:
    error = cls.__new__(cls)
    MeshError.__init__(error, message, **details)  # type: ignore[arg-type]
    return error


def _content(error: MeshError) -> tuple[object, ...]:
    return (
        type(error),
        error.code,
        error.reason,
        error.message,
        dict(error.metadata),
        error.violations,
        error.retry_after_seconds,
        error.quota,
    )


def test_classes_and_reasons_match_one_to_one() -> None:
    """Every ErrorReason has exactly one class, and every class a reason of the contract."""
    contract = [
        name.removeprefix("ERROR_REASON_")
        for name in map(str, reasons_pb2.ErrorReason.keys())
        if name != "ERROR_REASON_UNSPECIFIED"
    ]
    assert sorted(each.reason for each in _CLASSES) == sorted(contract)
    assert errors.reasons() == set(contract)


def test_every_class_is_offered_by_the_errors_module() -> None:
    """A service finds each error class in meshkit.errors."""
    assert {each.__name__ for each in _CLASSES} <= set(errors.__all__)


@given(
    st.sampled_from(_CLASSES),
    _TEXT,
    st.dictionaries(_TEXT, _TEXT, max_size=3),
    st.lists(st.builds(errors.Violation, _TEXT, _TEXT), max_size=3),
    st.none() | st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    st.lists(st.builds(errors.QuotaViolation, _TEXT, _TEXT), max_size=3),
)
def test_an_error_survives_the_wire(
    cls: type[MeshError],
    message: str,
    metadata: dict[str, str],
    violations: list[errors.Violation],
    retry_after_seconds: float | None,
    quota: list[errors.QuotaViolation],
) -> None:
    """Encoding and decoding gives the same class with the same text and details."""
    error = _make(
        cls,
        message,
        metadata=metadata,
        violations=violations,
        retry_after_seconds=retry_after_seconds,
        quota=quota,
    )
    wire = errors.to_status(error).SerializeToString()
    assert _content(errors.from_status(status_pb2.Status.FromString(wire))) == _content(error)


def test_an_invalid_field_is_named_in_bad_request() -> None:
    """A wrong field is in the text and in a BadRequest detail."""
    status = errors.to_status(errors.InvalidField("task.lane", "must be a lane"))
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert (status.code, status.message) == (3, "task.lane: must be a lane")
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("task.lane", "must be a lane")
    ]


def test_many_invalid_fields_are_named_together() -> None:
    """Several wrong fields make one error that names them all."""
    error = errors.InvalidField.many(
        [errors.Violation("a", "is missing"), errors.Violation("b", "is too long")]
    )
    assert error.message == "a: is missing; b: is too long"
    assert [each.field for each in error.violations] == ["a", "b"]


def test_a_foreign_exception_says_nothing_of_itself() -> None:
    """An exception that is no MeshError becomes INTERNAL with an error id and nothing else."""
    error = errors.from_status(errors.to_status(ValueError("password is hunter2")))
    assert isinstance(error, errors.Internal)
    assert "hunter2" not in error.message
    assert len(error.metadata["error_id"]) == 16


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.DependencyUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        # A peer that goes away; a cancel of our own is no error of gRPC.
        (grpc.StatusCode.CANCELLED, "", errors.DependencyUnavailable),
        # Of a write to a stream that broke at that moment.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", errors.DependencyUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "local_rate_limited", errors.RateLimited),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 8)",
            errors.TooLarge,
        ),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.NotImplementedYet),
        (grpc.StatusCode.NOT_FOUND, "no route", errors.ForeignError),
    ],
)
def test_bare_grpc_errors_get_the_class_of_their_code(
    code: grpc.StatusCode, details: str, expected: type[MeshError]
) -> None:
    """An error without a google.rpc.Status is classed by its code and keeps its text."""
    error = errors.from_rpc_error(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    )
    assert (type(error), error.message) == (expected, details)
    if expected is errors.ForeignError:
        assert error.code is code


def test_an_item_that_was_broken_off_without_a_reason_may_be_tried_again() -> None:
    """Only a status that says CANCELLED by its reason is somebody's decision."""
    bare = errors.from_status(status_pb2.Status(code=1, message="Stopped."))
    assert (type(bare), bare.message) == (errors.DependencyUnavailable, "Stopped.")
    assert errors.is_retryable(bare)
    decided = errors.from_status(errors.to_status(errors.Cancelled("Stopped.")))
    assert (type(decided), decided.message) == (errors.Cancelled, "Stopped.")
    assert not errors.is_retryable(decided)


def test_a_reason_of_a_newer_peer_is_kept() -> None:
    """A reason that this version does not know keeps its code and its reason."""
    status = errors.to_status(errors.Conflict("later"))
    info = error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain="agentmesh.dev")
    status.details[0].Pack(info)
    error = errors.from_status(status)
    assert (type(error), error.code, error.reason) == (
        errors.ForeignError,
        grpc.StatusCode.ABORTED,
        "FROM_THE_FUTURE",
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.DependencyUnavailable(""), True),
        (errors.BreakerOpen("", retry_after_seconds=1), True),
        (errors.Conflict(""), True),
        (errors.Fenced(""), False),
        (errors.ToolFailed(""), False),
        (errors.RateLimited("", retry_after_seconds=1), True),
        (errors.BudgetExhausted(""), False),
        (errors.DeadlineExceeded(""), True),
        (errors.DeadlineExceeded("", metadata={"limit": "task"}), False),
        (errors.InvalidField("a", "b"), False),
        (errors.TooLarge(""), False),
        (errors.Internal(""), False),
        (ConnectionResetError(), False),
    ],
)
def test_only_what_may_succeed_is_retryable(error: BaseException, expected: bool) -> None:
    """Retrying is offered where the same call may succeed, never for invalid input."""
    assert errors.is_retryable(error) is expected
