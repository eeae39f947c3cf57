"""One mesh for the tests of a module, one after the other: a plugin of pytest.

Each test has tenants of its own, `question.tenants_of(...)`, and leaves everybody well.
"""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.faults.fault_mesh import Arrangement, FaultMesh, running


@pytest.fixture(scope="module")
def arrangement() -> Arrangement:
    """How the module's mesh differs from the ordinary one. A module may have its own."""
    return Arrangement()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_mesh(
    tmp_path_factory: pytest.TempPathFactory, arrangement: Arrangement
) -> AsyncGenerator[FaultMesh]:
    """It runs from the first test to the last."""
    async with running(tmp_path_factory.mktemp("shared"), arrangement) as mesh:
        yield mesh


@pytest.fixture
def mesh(shared_mesh: FaultMesh) -> FaultMesh:
    """As if nothing had happened in it yet."""
    shared_mesh.forget()
    return shared_mesh
