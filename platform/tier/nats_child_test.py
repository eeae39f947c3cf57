"""How the broker of a mesh is run."""

import os
from pathlib import Path

import pytest

from tier.data_dir import DataDir
from tier.nats_child import nats_child


@pytest.mark.parametrize(
    ("flushes", "chosen", "then"),
    [
        pytest.param(False, None, str(max(len(os.sched_getaffinity(0)) // 2, 1)), id="half"),
        pytest.param(False, "7", "7", id="as many as somebody chose"),
        pytest.param(True, None, None, id="all where it flushes"),
    ],
)
def test_it_leaves_processors_to_the_services(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flushes: bool,
    chosen: str | None,
    then: str | None,
) -> None:
    """Unless it has to wait for the disk, or was told how many it may use."""
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    if chosen:
        monkeypatch.setenv("GOMAXPROCS", chosen)
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    spec = nats_child(Path("nats-server"), data_dir, 1, 2, flushes=flushes)
    assert spec.environment.get("GOMAXPROCS") == then
