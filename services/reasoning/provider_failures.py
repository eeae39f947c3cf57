"""How a provider fails: what went wrong, told in one way by every adapter.

Whoever retries, falls back or opens a breaker goes by `failure_of`, not by texts.
"""

from enum import StrEnum
from typing import Final, TypeVar

from meshkit.errors import InvalidField, MeshError, ProviderFailed, RateLimited
from meshkit.frozen import frozen

_FAILURE: Final = "failure"
_INPUT: Final = "input_tokens"
_OUTPUT: Final = "output_tokens"
_CACHED: Final = "cached_input_tokens"
_USED: Final = "tokens_used"
_Error = TypeVar("_Error", bound=BaseException)


@frozen
class TokensUsed:
    """What a call used; `cached_input_tokens` are a part of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0

    def __add__(self, other: "TokensUsed") -> "TokensUsed":
        return TokensUsed(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
        )


class Failure(StrEnum):
    """What went wrong with a call."""

    # Nothing answered: no connection, or it broke before the answer.
    UNREACHABLE = "unreachable"
    # It has too much to do (503, 529).
    OVERLOADED = "overloaded"
    # It says that it failed (other 5xx).
    SERVER_ERROR = "server_error"
    # It took longer than it may.
    TIMEOUT = "timeout"
    # The answer ended early, or is none.
    BROKEN_ANSWER = "broken_answer"
    # The answer does not satisfy the caller's schema, though it was asked for again. It says
    # as much about the schema as about the model, and another model may do better.
    UNFIT_ANSWER = "unfit_answer"
    # More requests or tokens than it allows (429).
    RATE_LIMITED = "rate_limited"
    # The key is wrong, or may not do this (401, 403).
    UNAUTHORISED = "unauthorised"
    # There is no such model there (404).
    NO_MODEL = "no_model"
    # The request is one that it will never take (400, 413, 422).
    REJECTED = "rejected"


# What says something about the endpoint: enough of it opens the breaker.
OF_THE_ENDPOINT: Final = frozenset(
    (
        Failure.UNREACHABLE,
        Failure.OVERLOADED,
        Failure.SERVER_ERROR,
        Failure.TIMEOUT,
        Failure.BROKEN_ANSWER,
        Failure.UNAUTHORISED,
        Failure.NO_MODEL,
    )
)
# What may go well a moment later, at the same endpoint.
PASSING: Final = frozenset(
    (Failure.UNREACHABLE, Failure.OVERLOADED, Failure.SERVER_ERROR, Failure.BROKEN_ANSWER)
)


def provider_failure(
    failure: Failure,
    *,
    provider: str,
    model: str,
    why: str,
    retry_after_seconds: float | None = None,
    used: TokensUsed | None = None,
) -> MeshError:
    """The error to raise.

    Args:
        failure: What went wrong.
        provider: Such as `openai`.
        model: Its name in the mesh.
        why: A clause for people without a full stop, without prompts, keys and addresses'
            secrets, such as `answered 503`.
        retry_after_seconds: When the provider said that it may be asked again.
        used: What the call used all the same, where that is known.
    """
    metadata = {"provider": provider, "model": model, _FAILURE: failure.value}
    if used is not None:
        metadata |= _told(used)
    text = f"The model {model} ({provider}) {why}."
    match failure:
        case Failure.RATE_LIMITED:
            return RateLimited(text, metadata=metadata, retry_after_seconds=retry_after_seconds)
        case Failure.REJECTED:
            rejected = InvalidField("messages", text)
            rejected.metadata = metadata
            return rejected
        case _:
            return ProviderFailed(text, metadata=metadata, retry_after_seconds=retry_after_seconds)


def failure_of(error: BaseException) -> Failure | None:
    """What went wrong with a provider; None for every other error."""
    if not isinstance(error, MeshError):
        return None
    told = error.metadata.get(_FAILURE)
    return Failure(told) if told else None


def used_by(error: BaseException) -> TokensUsed | None:
    """What a call that failed used; None where that is not known, or nothing.

    Of one that was broken off it is what its attempts before the last one used.
    """
    if not isinstance(error, MeshError):
        return getattr(error, _USED, None)
    if _INPUT not in error.metadata:
        return None
    told = error.metadata
    return TokensUsed(int(told[_INPUT]), int(told[_OUTPUT]), int(told[_CACHED]))


def having_used(error: _Error, used: TokensUsed) -> _Error:
    """The same error, of a call that had used so much before."""
    used += used_by(error) or TokensUsed()
    if isinstance(error, MeshError):
        error.metadata = {**error.metadata, **_told(used)}
    else:
        # asyncio.CancelledError, which no class of ours may stand in for.
        setattr(error, _USED, used)
    return error


def _told(used: TokensUsed) -> dict[str, str]:
    return {
        _INPUT: str(used.input_tokens),
        _OUTPUT: str(used.output_tokens),
        _CACHED: str(used.cached_input_tokens),
    }
