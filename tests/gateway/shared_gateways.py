"""Gateways that several test modules share: `pytest_plugins = ["tests.gateway.shared_gateways"]`.

What stands behind them has forgotten, at the beginning of a test, all that went before. Envoy has
not: its log and its counters go on, so a test looks there for calls of a trace of its own.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
import pytest_asyncio

from meshtest.clock import FakeClock
from tests.gateway.guarded import KEY, Guarded, guarded
from tests.gateway.running_gateway import Front, front

# The site whose pages are let in.
CONSOLE: Final = "https://console.example.com"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """See `mesh`."""
    async with guarded(tmp_path_factory.mktemp("guarded"), origins=(CONSOLE,)) as each:
        yield each


@pytest.fixture
def mesh(shared_mesh: Guarded) -> Guarded:
    """A guarded gateway that knows one key, and lets in the pages of one site."""
    mesh = replace(shared_mesh, clock=FakeClock(), reports=[])
    mesh.forget()
    mesh.knows(KEY)
    return mesh


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """See `running`."""
    async with front(tmp_path_factory.mktemp("front")) as each:
        yield each


@pytest.fixture
def running(shared_front: Front) -> Front:
    """A gateway that asks nobody for credentials, with one instance behind it."""
    shared_front.coordinator.forget()
    return shared_front
