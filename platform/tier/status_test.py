"""Tests of what is told of the processes of a mesh."""

import os
from datetime import UTC, datetime
from pathlib import Path

from tier.options import Tier
from tier.state import MeshState, ProcessRecord
from tier.status import status


def _state(folder: Path, admin: Path | None) -> MeshState:
    """A mesh of which a gateway is left, whose process lives."""
    gateway = ProcessRecord("gateway", os.getpid(), "1.2.3", (8080,), None)
    return MeshState(
        pid=0,
        process_start_ticks=0,
        tier=Tier.PROTOTYPE,
        version="1.2.3",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        data_dir=folder,
        address="127.0.0.1:8080",
        admin_address=admin,
        config=None,
        processes=(gateway,),
        notes=(),
        services=(),
    )


async def test_a_mesh_of_an_earlier_version_is_not_asked_where_it_does_not_listen(
    tmp_path: Path,
) -> None:
    """Instead it is said what to do."""
    (shown,) = await status(_state(tmp_path, None))
    assert not shown.healthy
    assert shown.detail == (
        "cannot be asked: the mesh was started by an earlier version; "
        "end it with `agentmesh down`, and start it again"
    )


async def test_an_envoy_that_does_not_answer_is_told_with_its_socket(tmp_path: Path) -> None:
    """Its process alone does not make it well."""
    socket = tmp_path / "run" / "gateway-admin.sock"
    (shown,) = await status(_state(tmp_path, socket))
    assert not shown.healthy
    assert shown.detail == f"does not answer: nobody listens at {socket}"
