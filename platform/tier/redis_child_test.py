"""A real Redis with the configuration of a mesh."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from meshkit import redis_store
from meshtest.child_server import binary, free_port
from meshtest.eventually import eventually
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.redis_child import redis_child


async def _config(spec: ChildSpec, name: str) -> str:
    async with aclosing(redis_store.connect(f"redis://127.0.0.1:{spec.ports[0]}")) as redis:
        # Any: the package types this call in part.
        return str((await cast(Any, redis).config_get(name))[name])


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
    process = await asyncio.create_subprocess_exec(*spec.command, cwd=spec.working_dir)
    try:
        await eventually(lambda: _ready(spec))
        assert await _config(spec, "appendonly") == "yes"
        assert await _config(spec, "appendfsync") == appendfsync
        assert await _config(spec, "maxmemory-policy") == "noeviction"
    finally:
        process.kill()
        await process.wait()
