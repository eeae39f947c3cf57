"""Lists that come in pages."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from cli.gateway import CALL_SECONDS

T = TypeVar("T")
_LARGEST_PAGE: Final = 1000


async def collect(
    call: Callable[..., Awaitable[Any]],
    request: Any,
    items: Callable[[Any], Iterable[T]],
    *,
    limit: int,
    page_seconds: float = CALL_SECONDS,
) -> list[T]:
    """The first `limit` items over as many pages as that takes, each in so many seconds."""
    collected: list[T] = []
    while len(collected) < limit:
        request.page_size = min(_LARGEST_PAGE, limit - len(collected))
        answer = await call(request, timeout=page_seconds)
        collected += items(answer)
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    return collected[:limit]
