"""What is said of the processors, which fail no start."""

from pathlib import Path

import pytest

from tier import doctor
from tier.options import MeshOptions
from tier.reports import Check


async def _processors(data_dir: Path) -> Check:
    checks = await doctor.doctor(MeshOptions(data_dir=data_dir))
    (check,) = (each for each in checks if each.name == "processors")
    assert check.passed
    return check


async def test_who_may_keep_processors_awake_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to do then."""
    monkeypatch.setattr(doctor, "may_keep_awake", lambda: True)
    check = await _processors(tmp_path)
    assert "awake" in check.detail
    assert not check.remedy


async def test_who_may_not_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They sleep."""
    monkeypatch.setattr(doctor, "may_keep_awake", lambda: False)
    check = await _processors(tmp_path)
    assert "sleep" in check.detail
    assert "/dev/cpu_dma_latency" in check.remedy


async def test_who_has_decided_that_they_sleep_is_told_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they could be kept awake."""
    monkeypatch.setattr(doctor, "may_keep_awake", lambda: True)
    monkeypatch.setenv("AGENTMESH_MACHINE__AWAKE_WHILE_BUSY", "false")
    check = await _processors(tmp_path)
    assert "sleep" in check.detail
    assert not check.remedy
