"""One class for each ErrorReason of agentmesh.errors.v1."""

from collections.abc import Sequence
from typing import Self

import grpc

from meshkit.mesh_error import MeshError, Violation


class InvalidField(MeshError):
    """A field is missing or wrong; BadRequest names it."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str) -> None:
        """`field` is the path in the request, such as `task.input.text`."""
        super().__init__(f"{field}: {description}", violations=[Violation(field, description)])

    @classmethod
    def many(cls, violations: Sequence[Violation]) -> Self:
        """Names every wrong field at once; there must be at least one."""
        first = violations[0]
        error = cls(first.field, first.description)
        text = "; ".join(f"{each.field}: {each.description}" for each in violations)
        MeshError.__init__(error, text, violations=violations)
        return error


class TooLarge(MeshError):
    """Something is larger than its limit; metadata `limit_bytes`, `size_bytes`."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "TOO_LARGE"


class InvalidPageToken(MeshError):
    """A page token was not made by this method with these filters."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_PAGE_TOKEN"


class InvalidToolArguments(MeshError):
    """Tool arguments do not match the tool's JSON Schema; BadRequest names the paths."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_TOOL_ARGUMENTS"


class UnreadableDocument(MeshError):
    """A document's bytes cannot be read as its media type."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "UNREADABLE_DOCUMENT"


class DeadlineRequired(MeshError):
    """A call came without a deadline."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "DEADLINE_REQUIRED"


class Unauthenticated(MeshError):
    """No identity, or one that cannot be verified."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Forbidden(MeshError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "FORBIDDEN"


class TaskNotFound(MeshError):
    """No task of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "TASK_NOT_FOUND"


class AgentNotFound(MeshError):
    """No agent of this name or version."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "AGENT_NOT_FOUND"


class ToolNotFound(MeshError):
    """No tool of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "TOOL_NOT_FOUND"


class ModelNotFound(MeshError):
    """No model of this name, or none in this tier."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class DocumentNotFound(MeshError):
    """No document of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "DOCUMENT_NOT_FOUND"


class SessionNotFound(MeshError):
    """No session of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SESSION_NOT_FOUND"


class BudgetNotFound(MeshError):
    """No budget of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "BUDGET_NOT_FOUND"


class ReservationNotFound(MeshError):
    """No reservation with this key, or it expired."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "RESERVATION_NOT_FOUND"


class DeadLetterNotFound(MeshError):
    """No dead letter of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "DEAD_LETTER_NOT_FOUND"


class RecordNotFound(MeshError):
    """No record of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "RECORD_NOT_FOUND"


class ScheduleNotFound(MeshError):
    """No schedule of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SCHEDULE_NOT_FOUND"


class ApiKeyNotFound(MeshError):
    """No API key of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "API_KEY_NOT_FOUND"


class AlreadyExists(MeshError):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class RequestIdReused(MeshError):
    """The request_id was used for a different request."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"


class TaskStateError(MeshError):
    """The task is in a state in which this cannot be done; metadata `state`."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TASK_STATE"


class AlreadySettled(MeshError):
    """A reservation was settled with other figures before."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ALREADY_SETTLED"


class OutcomeUnknown(MeshError):
    """A tool's earlier execution has an unknown outcome and must not be repeated."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "OUTCOME_UNKNOWN"


class NoPrice(MeshError):
    """A model has no price."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "NO_PRICE"


class Conflict(MeshError):
    """Somebody else wrote first; read again and retry."""

    code = grpc.StatusCode.ABORTED
    reason = "CONFLICT"


class Fenced(MeshError):
    """Another executor took the task over."""

    code = grpc.StatusCode.ABORTED
    reason = "FENCED"


class BudgetExhausted(MeshError):
    """A budget is spent; QuotaFailure names it, metadata `resets_at`."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "BUDGET_EXHAUSTED"


class RateLimited(MeshError):
    """Too many requests; RetryInfo says when to come back."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class QueueFull(MeshError):
    """A queue is full; RetryInfo says when to come back."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class StepLimit(MeshError):
    """The task made as many steps as its agent allows."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "STEP_LIMIT"


class DependencyUnavailable(MeshError):
    """Something that this call needs cannot be reached; metadata `dependency`."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"


class ShuttingDown(MeshError):
    """The server is shutting down."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SHUTTING_DOWN"


class BreakerOpen(MeshError):
    """A breaker is open; RetryInfo says when it half-opens."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "BREAKER_OPEN"


class ProviderFailed(MeshError):
    """The provider of a model failed; metadata `provider`."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "PROVIDER_FAILED"


class NewerFormat(MeshError):
    """A later version wrote this in a format that is not known here; metadata `format`, `reads`."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "NEWER_FORMAT"


class DeadlineExceeded(MeshError):
    """The time limit ran out; metadata `limit`."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(MeshError):
    """The caller, or a cancel of the task, stopped it."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class NotImplementedYet(MeshError):
    """Part of the contract that this version does not serve yet."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "NOT_IMPLEMENTED"


class Internal(MeshError):
    """A fault of Agentmesh; metadata `error_id` finds it in the logs."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"


class CorruptData(MeshError):
    """Stored data cannot be read as what it should be."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "CORRUPT_DATA"


class ToolFailed(MeshError):
    """A tool ran and failed; the message is the tool's."""

    code = grpc.StatusCode.ABORTED
    reason = "TOOL_FAILED"


class ForeignError(MeshError):
    """An error that reached us as a bare gRPC code: from a proxy, a library, or a newer peer.

    It keeps the code. Its reason is empty unless a newer peer gave one that
    this version does not know.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
