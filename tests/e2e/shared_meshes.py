"""Meshes that several test modules share: `pytest_plugins = ["tests.e2e.shared_meshes"]`.

A start takes longer than most of what is tested. So what a test sets, it sets for a tenant of its
own, or sets back.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.running_mesh import Client, running
from tier.api import Tier


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prototype(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """All services in one process."""
    async with running(tmp_path_factory.mktemp("prototype"), Tier.PROTOTYPE) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def staging(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A process a service, and two executors."""
    async with running(tmp_path_factory.mktemp("staging"), Tier.STAGING, executors=2) as client:
        yield client


@pytest.fixture(params=["prototype", "staging"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the two."""
    return request.getfixturevalue(request.param)
