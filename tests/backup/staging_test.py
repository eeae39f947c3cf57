"""Staging with all that it keeps: partitions, PostgreSQL, keys and certificates."""

import asyncio
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from audit import api as audit
from audit.report import Report
from backup import api as backup
from meshkit import redis_store
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshtest.eventually import eventually
from tests.audit.later_clock import LaterClock
from tier import api
from tier.api import MeshOptions, MeshState, Tier

_ENDS_WITHIN_SECONDS = 90.0
_TASKS = "tenants/default/tasks"
_KEYS = "tenants/default/apiKeys"


def _ignore(_: object) -> None:
    pass


@pytest.fixture
def options(tmp_path: Path) -> Iterator[MeshOptions]:
    """Staging with two executors and a log in two partitions."""
    chosen = MeshOptions(
        tier=Tier.STAGING,
        data_dir=tmp_path / "data",
        port=0,
        executors=2,
        task_partitions=2,
        postgres=api.find_postgres(os.environ),
    )
    yield chosen
    api.stop_detached(chosen.data_dir, _ignore)


async def _call(state: MeshState, key: str, path: str, value: object = None) -> Any:
    def exchange() -> Any:
        body = None if value is None else json.dumps(value).encode()
        headers = {"x-api-key": key, "content-type": "application/json"}
        request = urllib.request.Request(f"http://{state.address}/v1/{path}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(exchange)


async def _submit(state: MeshState, key: str, number: int) -> str:
    task = {"task": {"input": {"text": f"What is {number} * 7?"}}, "requestId": f"n{number}"}
    return str((await _call(state, key, _TASKS, task))["task"]["name"])


async def _make_key(state: MeshState, key: str, name: str) -> tuple[str, str]:
    """A key's name, and what is sent."""
    value = {"apiKey": {"displayName": name, "role": "ROLE_USER"}, "requestId": name}
    made = await _call(state, key, _KEYS, value)
    return made["apiKey"]["name"], made["text"]


async def _all_listed(state: MeshState, key: str, wanted: set[str]) -> None:
    """Returns when the list, which PostgreSQL has where there is one, has all of them done."""

    async def there() -> bool:
        tasks = (await _call(state, key, f"{_TASKS}?pageSize=500")).get("tasks", [])
        states = {each["name"]: each["state"] for each in tasks}
        assert wanted <= states.keys()
        assert {states[name] for name in wanted} == {"TASK_STATE_SUCCEEDED"}
        return True

    await eventually(there, _ENDS_WITHIN_SECONDS)


async def _audit(options: MeshOptions, state: MeshState, patch: pytest.MonkeyPatch) -> Report:
    ports = {each.name: each.ports[0] for each in state.processes if each.ports}
    ledger = str(options.data_dir / "governor" / "ledger.sqlite")
    if "postgres" in ports:
        patch.setenv("PGPASSFILE", str(options.data_dir / "postgres" / "pgpass"))
        ledger = f"postgresql://agentmesh@127.0.0.1:{ports['postgres']}/postgres"
    redis, counters = (
        redis_store.connect(f"redis://127.0.0.1:{ports[name]}")
        for name in ("redis", "redis-counters")
    )
    async with (
        aclosing(redis),
        aclosing(counters),
        await Bus.connect(f"nats://127.0.0.1:{ports['nats']}", name="audit") as bus,
    ):
        return await audit.run(bus, redis, counters=counters, ledger=ledger, clock=LaterClock())


async def test_staging_goes_on_after_a_restore(
    options: MeshOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks, the shared databases, keys that are in force and keys that are not, certificates."""
    state = await asyncio.to_thread(api.start_detached, options, _ignore)
    local = options.data_dir / "access" / "local.key"
    authority = options.data_dir / "certificates" / "authority" / "certificate.pem"
    key, trusted = local.read_text("utf-8").strip(), authority.read_bytes()
    _, good = await _make_key(state, key, "good")
    revoked_name, revoked = await _make_key(state, key, "revoked")
    await _call(state, key, f"{revoked_name}:revoke", {})
    done = {await _submit(state, key, number) for number in range(4)}
    await _all_listed(state, key, done)
    stop = asyncio.Event()

    async def work() -> set[str]:
        names: set[str] = set()
        while not stop.is_set():
            name = await _submit(state, key, 100 + len(names))
            names.add(name)
            # Not more than are done: all of them are there again after the restore.
            await _all_listed(state, key, {name})
        return names

    working = asyncio.create_task(work())
    saved = await backup.save(options.data_dir, tmp_path, clock=SystemClock(), progress=_ignore)
    stop.set()
    later = await working
    await asyncio.to_thread(api.stop_detached, options.data_dir, _ignore)
    assert saved.manifest.tier == "staging"
    assert ("postgres" in saved.manifest.versions) == (options.postgres is not None)
    shutil.rmtree(options.data_dir)

    await backup.restore(saved.path, options.data_dir, progress=_ignore)
    # Counters begin anew with the ledger.
    assert not (options.data_dir / "redis-counters").exists()

    state = await asyncio.to_thread(api.start_detached, options, _ignore)
    assert local.read_text("utf-8").strip() == key
    assert authority.read_bytes() == trusted
    await _all_listed(state, good, done)
    with pytest.raises(urllib.error.HTTPError) as refused:
        await _call(state, revoked, _TASKS)
    assert refused.value.code == 401
    # What was accepted meanwhile is the same task, or is accepted once more.
    assert {await _submit(state, key, 100 + number) for number in range(len(later))} == later
    await _all_listed(state, key, done | later)

    async def all_charged() -> Report:
        """The last settlements come after their tasks have ended."""
        report = await _audit(options, state, monkeypatch)
        assert report.findings == ()
        assert report.counts["ledger_charges"] == report.counts["charges"] > len(done)
        return report

    report = await eventually(all_charged)
    assert report.tasks == {"SUCCEEDED": len(done | later)}
