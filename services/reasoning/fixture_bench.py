"""Test-only: a reasoning service on a real server, as a fixture."""

from collections.abc import AsyncIterator

import pytest

from services.reasoning.fixture_reasoning import Bench, reasoning_bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """With all that it depends on."""
    async with reasoning_bench() as bench:
        yield bench
