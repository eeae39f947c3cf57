"""A real Redis with the configuration of a mesh."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from meshkit import redis_store
from meshtest.child_server import binary, free_port
from meshtest.eventually import eventually
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.options import MeshOptions, Tier
from tier.redis_child import COUNTERS, counters_child, redis_child, redis_children


@asynccontextmanager
async def _running(spec: ChildSpec) -> AsyncGenerator[None]:
    """It runs, and is killed at the end."""
    process = await asyncio.create_subprocess_exec(*spec.command, cwd=spec.working_dir)
    try:
        await eventually(lambda: _ready(spec))
        yield
    finally:
        process.kill()
        await process.wait()


def _client(spec: ChildSpec) -> Any:
    # Any: the package types its calls in part.
    return cast(Any, redis_store.connect(f"redis://127.0.0.1:{spec.ports[0]}"))


async def _config(spec: ChildSpec, name: str) -> str:
    async with aclosing(_client(spec)) as redis:
        return str((await redis.config_get(name))[name])


async def _ready(spec: ChildSpec) -> bool:
    try:
        return await spec.probe() is not None
    except OSError:
        return False


@pytest.mark.parametrize(("flushes", "appendfsync"), [(False, "no"), (True, "always")])
async def test_it_never_holds_back_what_it_has_acknowledged(
    tmp_path: Path, flushes: bool, appendfsync: str
) -> None:
    """As it would each second, while the flush before is under way; nor does it drop anything."""
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    spec = redis_child(binary("REDIS_SERVER"), data_dir, free_port(), flushes=flushes)
    async with _running(spec):
        assert await _config(spec, "appendonly") == "yes"
        assert await _config(spec, "appendfsync") == appendfsync
        assert await _config(spec, "maxmemory-policy") == "noeviction"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (MeshOptions(tier=Tier.STAGING), ["redis", "redis-counters"]),
        (MeshOptions(tier=Tier.STAGING, sync_always=False), ["redis"]),
        (MeshOptions(), ["redis"]),
        (MeshOptions(sync_always=True), ["redis"]),
    ],
)
def test_counters_are_apart_where_staging_flushes(
    tmp_path: Path, options: MeshOptions, names: list[str]
) -> None:
    """Nowhere else is there anything to be gained."""
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    specs = redis_children(binary("REDIS_SERVER"), data_dir, options)
    assert [each.name for each in specs] == names
    assert len({each.ports for each in specs}) == len(names)


@pytest.mark.parametrize(
    ("boot", "kept"), [(None, True), ("of the day before\n", False), ("", False)]
)
async def test_counters_outlive_their_redis_and_not_the_run_of_the_machine(
    tmp_path: Path, boot: str | None, kept: bool
) -> None:
    """Killed, it has all that it acknowledged; what a power cut leaves of it is not believed."""
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    spec = counters_child(binary("REDIS_SERVER"), data_dir, free_port())
    async with _running(spec), aclosing(_client(spec)) as redis:
        assert await _config(spec, "appendonly") == "yes"
        assert await _config(spec, "appendfsync") == "no"
        assert await _config(spec, "maxmemory-policy") == "noeviction"
        await redis.set("spent", 7)
    if boot is not None:
        (data_dir.folder(COUNTERS) / "boot").write_text(boot, "ascii")
    spec = counters_child(binary("REDIS_SERVER"), data_dir, free_port())
    async with _running(spec), aclosing(_client(spec)) as redis:
        assert await redis.get("spent") == (b"7" if kept else None)
