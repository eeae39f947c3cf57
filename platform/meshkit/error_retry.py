"""Whether it helps to try again."""

import grpc

from meshkit.mesh_error import MeshError


def is_retryable(error: BaseException) -> bool:
    """True where the same call, made again, may succeed.

    An expired limit counts only where it was that of a single call: one with
    metadata `limit` other than `call` belongs to a step or a task, and is final.
    """
    if not isinstance(error, MeshError):
        return False
    match error.code:
        case grpc.StatusCode.UNAVAILABLE:
            return True
        case grpc.StatusCode.ABORTED:
            return error.reason in ("CONFLICT", "")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return error.retry_after_seconds is not None
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return error.metadata.get("limit", "call") == "call"
        case _:
            return False
