"""What went wrong at a Triton server, told as provider_failures.py has it."""

import re
from typing import Final

import grpc

from services.reasoning.provider_failures import Failure

_BY_CODE: Final = {
    grpc.StatusCode.UNAVAILABLE: Failure.UNREACHABLE,
    # Of a server that is going down; our own cancelling ends in no error.
    grpc.StatusCode.CANCELLED: Failure.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Failure.TIMEOUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Failure.RATE_LIMITED,
    grpc.StatusCode.UNAUTHENTICATED: Failure.UNAUTHORISED,
    grpc.StatusCode.PERMISSION_DENIED: Failure.UNAUTHORISED,
    grpc.StatusCode.NOT_FOUND: Failure.NO_MODEL,
    grpc.StatusCode.INVALID_ARGUMENT: Failure.REJECTED,
    grpc.StatusCode.FAILED_PRECONDITION: Failure.REJECTED,
    # Of a model that is not decoupled, among others: it is not asked in that way.
    grpc.StatusCode.UNIMPLEMENTED: Failure.REJECTED,
}
# What Triton and vLLM say, where the status does not tell it or there is none.
_BY_WORDS: Final = (
    (re.compile(r"unknown model|no available versions|is not ready", re.I), Failure.NO_MODEL),
    (re.compile(r"maximum queue size|too many requests|overloaded", re.I), Failure.OVERLOADED),
    (re.compile(r"unhealthy|shutting down|is stopping|being unloaded", re.I), Failure.OVERLOADED),
    (
        re.compile(r"longer than the maximum|maximum model length|maximum context", re.I),
        Failure.REJECTED,
    ),
    (
        re.compile(r"unexpected (inference )?input|required input|unable to parse|invalid", re.I),
        Failure.REJECTED,
    ),
)


def failure_of_status(code: grpc.StatusCode, details: str) -> tuple[Failure, str]:
    """What went wrong, and a clause for people, where a call ended with a status.

    The server's own words are not in it: they may quote the prompt.
    """
    return _worded(details) or _BY_CODE.get(code, Failure.SERVER_ERROR), f"answered {code.name}"


def failure_of_message(message: str) -> tuple[Failure, str]:
    """The same where the server said it within a stream that goes on."""
    return _worded(message) or Failure.SERVER_ERROR, "answered with an error"


def _worded(text: str) -> Failure | None:
    return next((failure for words, failure in _BY_WORDS if words.search(text)), None)
