"""Test-only: a coordinator that keeps keys, on a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtest.clock import FakeClock
from services.coordinator import access_world
from services.coordinator.access_world import Coordinator

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def coordinator(
    nats_url: str, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Coordinator]:
    """A coordinator whose clock stands still."""
    async with access_world.coordinator(nats_url, tmp_path, clock=clock) as made:
        yield made
