"""Errors to google.rpc.Status and back to the same class."""

import secrets
from typing import Final, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from meshkit import error_reasons
from meshkit.constants import ERROR_DOMAIN, STATUS_DETAILS_KEY
from meshkit.error_reasons import (
    CorruptData,
    DeadlineExceeded,
    DependencyUnavailable,
    Forbidden,
    ForeignError,
    Internal,
    NotImplementedYet,
    RateLimited,
    TooLarge,
    Unauthenticated,
)
from meshkit.mesh_error import MeshError, QuotaViolation, Violation


def _number(code: grpc.StatusCode) -> int:
    # The value is a pair of number and text; grpc does not type it.
    return cast(tuple[int, str], code.value)[0]


_CLASSES: Final[dict[str, type[MeshError]]] = {
    each.reason: each
    for each in vars(error_reasons).values()
    if isinstance(each, type)
    and issubclass(each, MeshError)
    and each not in (MeshError, ForeignError)
}
_CODES: Final[dict[int, grpc.StatusCode]] = {_number(code): code for code in grpc.StatusCode}
# What a bare code means when it comes from a proxy or from gRPC itself.
_BARE: Final[dict[grpc.StatusCode, type[MeshError]]] = {
    grpc.StatusCode.UNAVAILABLE: DependencyUnavailable,
    # By a peer that goes away, or a proxy: who cancels a call of its own gets CancelledError.
    grpc.StatusCode.CANCELLED: DependencyUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedYet,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.DATA_LOSS: CorruptData,
    grpc.StatusCode.INTERNAL: Internal,
}
# What gRPC says of its own of a write to a stream that broke at that moment.
_BROKEN_WRITE: Final = "Internal error from Core"


def reasons() -> frozenset[str]:
    """Every reason that has a class."""
    return frozenset(_CLASSES)


def concealed(error_id: str) -> Internal:
    """What a caller sees of an error that is not meant for callers."""
    return Internal(
        f"Agentmesh failed inside. The logs have the cause under error id {error_id}.",
        metadata={"error_id": error_id},
    )


def to_status(error: BaseException) -> status_pb2.Status:
    """The status that a caller may see.

    Anything but a MeshError with a reason becomes INTERNAL and says nothing of
    itself; whoever calls this for such an error logs it first.
    """
    if not isinstance(error, MeshError) or not error.reason:
        error = concealed(secrets.token_hex(8))
    status = status_pb2.Status(code=_number(error.code), message=error.message)
    _add(
        status,
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata
        ),
    )
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for each in error.violations:
            bad.field_violations.add(field=each.field, description=each.description)
        _add(status, bad)
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_seconds * 1e9))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if error.quota:
        failure = error_details_pb2.QuotaFailure()
        for quota in error.quota:
            failure.violations.add(subject=quota.subject, description=quota.description)
        _add(status, failure)
    return status


def from_status(status: status_pb2.Status) -> MeshError:
    """The error that `to_status` was given: same class, text and details."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    failure = error_details_pb2.QuotaFailure()
    retry_after_seconds: float | None = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
        elif not (detail.Unpack(info) or detail.Unpack(bad)):
            detail.Unpack(failure)
    reason = info.reason if info.domain == ERROR_DOMAIN else ""
    cls = _CLASSES.get(reason)
    if cls is None:
        error = _bare(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, reason)
    else:
        error = cls.__new__(cls)  # constructors differ; the details below are what counts
    MeshError.__init__(
        error,
        status.message,
        metadata=info.metadata,
        violations=[Violation(each.field, each.description) for each in bad.field_violations],
        retry_after_seconds=retry_after_seconds,
        quota=[QuotaViolation(each.subject, each.description) for each in failure.violations],
    )
    return error


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeshError:
    """The error that the server raised, or what a bare gRPC error means."""
    details = _details(error)
    if details is not None:
        return from_status(status_pb2.Status.FromString(details))
    return _bare(error.code(), error.details() or "", "")


def has_status(error: grpc.aio.AioRpcError) -> bool:
    """Whether a server gave a google.rpc.Status; if not, gRPC or a proxy made the error."""
    return _details(error) is not None


def is_broken_write(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC only says that a message could not be sent, and not with what the call ended."""
    return _is_broken_write(error.code(), error.details() or "")


def _is_broken_write(code: grpc.StatusCode, message: str) -> bool:
    return code is grpc.StatusCode.INTERNAL and message == _BROKEN_WRITE


def _details(error: grpc.aio.AioRpcError) -> bytes | None:
    for key, value in error.trailing_metadata():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            return value
    return None


def _bare(code: grpc.StatusCode, message: str, reason: str) -> MeshError:
    if reason:
        return ForeignError(code, message, reason=reason)
    # gRPC reports a message over its limit with the code of an exhausted quota,
    # and trying that again never helps.
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return TooLarge(message)
    if _is_broken_write(code, message):
        return DependencyUnavailable(message)
    cls = _BARE.get(code)
    return cls(message) if cls else ForeignError(code, message)


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
