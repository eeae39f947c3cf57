"""A guarded mesh for test modules that say `pytest_plugins = ["tests.mesh.guarded_fixture"]`."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.mesh.guarded_mesh import GuardedMesh, guarded_mesh

# A model of somebody else's, who is not there.
_CONFIG: Final = """
reasoning:
  tiers: {fast: [gpt-5-mini], balanced: [offline]}
  models:
    gpt-5-mini: {provider: openai, address: "http://127.0.0.1:9/v1"}
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GuardedMesh]:
    """Staging as it is started without a word; all modules that run together share it."""
    folder = tmp_path_factory.mktemp("mesh")
    config = folder / "config.yaml"
    config.write_text(_CONFIG, "utf-8")
    async with guarded_mesh(folder / "data", config) as running:
        yield running
