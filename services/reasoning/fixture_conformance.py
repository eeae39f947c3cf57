"""Test-only: each provider before its server, and each way to ask it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest

from services.reasoning.conformance_calls import Ask, streamed, whole
from services.reasoning.upstream import (
    Upstream,
)
from services.reasoning.upstream_anthropic import anthropic_upstream
from services.reasoning.upstream_openai import openai_upstream
from services.reasoning.upstream_triton import triton_upstream

# Each starts its server, and gives the suite the way to drive it.
_RUNNING: Final[dict[str, Callable[[], AbstractAsyncContextManager[Upstream]]]] = {
    "anthropic": anthropic_upstream,
    "openai": openai_upstream,
    "triton": triton_upstream,
}


@pytest.fixture(params=list(_RUNNING))
async def upstream(request: pytest.FixtureRequest) -> AsyncGenerator[Upstream]:
    """Each of them."""
    async with _RUNNING[request.param]() as running:
        yield running


@pytest.fixture(params=[whole, streamed], ids=["whole", "streamed"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each behaviour is that of both ways to ask."""
    return request.param
