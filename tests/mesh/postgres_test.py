"""Staging with PostgreSQL: several coordinators and governors share what they keep there."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from meshtest.eventually import eventually
from tests.mesh.small_mesh import alive, children, pid_of
from tier import api
from tier.api import MeshOptions, MeshState, Tier

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def options(tmp_path: Path) -> Iterator[MeshOptions]:
    """Staging with two of what may be several, on a machine that has PostgreSQL."""
    postgres = api.find_postgres(os.environ)
    if postgres is None:
        pytest.skip("this machine has no PostgreSQL")
    chosen = MeshOptions(
        tier=Tier.STAGING,
        data_dir=tmp_path,
        port=0,
        replicas=2,
        no_auth=True,
        postgres=postgres,
    )
    yield chosen
    api.stop_detached(tmp_path, lambda _: None)


async def _call(state: MeshState, path: str, value: object = None) -> Any:
    def exchange() -> Any:
        body = json.dumps(value).encode() if value else None
        with urllib.request.urlopen(f"http://{state.address}/v1/{path}", body, 30) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(exchange)


async def _ask(state: MeshState, request_id: str) -> str:
    """Submits a task; its name."""
    task = {"task": {"input": {"text": "What is 6 * 7?"}}, "requestId": request_id}
    return str((await _call(state, "tenants/default/tasks", task))["task"]["name"])


async def _listed(state: MeshState, wanted: set[str]) -> None:
    """Returns when the list has these tasks, all done, whichever coordinator is asked."""

    async def all_there() -> bool:
        for _ in range(4):
            try:
                tasks = (await _call(state, "tenants/default/tasks")).get("tasks", [])
            except urllib.error.HTTPError as error:
                # PostgreSQL is away.
                if error.code != 503:
                    raise
                return False
            assert {each["name"] for each in tasks} == wanted
            assert {each["state"] for each in tasks} == {"TASK_STATE_SUCCEEDED"}
        return True

    await eventually(all_there, _PATIENCE_SECONDS)


def _count(options: MeshOptions, state: MeshState, table: str) -> int:
    (record,) = (each for each in state.processes if each.name == "postgres")
    address = f"postgresql://agentmesh@127.0.0.1:{record.ports[0]}/postgres"
    passfile = str(options.data_dir / "postgres/pgpass")
    with psycopg.connect(address, passfile=passfile) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return int(row[0]) if row else 0


async def test_coordinators_and_governors_share_it(
    options: MeshOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are two of each; each lists every task; kill -9 of all of it loses nothing.

    The password of some other server in the environment does not matter.
    """
    monkeypatch.setenv("PGPASSWORD", "of another server")
    state = api.start_detached(options, lambda _: None)
    monkeypatch.delenv("PGPASSWORD")
    names = [each.name for each in state.processes]
    for each in ("coordinator", "governor", "reasoning", "tool"):
        assert {f"{each}-1", f"{each}-2"} <= set(names)
    assert "postgres" in names
    assert not any("SQLite" in each for each in state.notes)
    done = {await _ask(state, f"r{number}") for number in range(4)}
    await _listed(state, done)
    assert not (options.data_dir / "coordinator/read_model").exists()
    # Each of these tasks spent something, which the ledger has.
    await eventually(
        lambda: _count(options, state, "agentmesh_ledger.charge") >= len(done), _PATIENCE_SECONDS
    )
    pids = children(state)
    os.kill(state.pid, signal.SIGKILL)
    # PostgreSQL, too, ends with the supervisor, however that ends.
    await eventually(lambda: not alive(pids), _PATIENCE_SECONDS)
    state = api.start_detached(options, lambda _: None)
    await _listed(state, done)
    os.kill(pid_of(state, "postgres"), signal.SIGKILL)
    # A task needs none of it; the list comes back with it.
    done.add(await _ask(state, "r9"))
    await _listed(state, done)
