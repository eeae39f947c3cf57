"""What pods are told is what their services understand."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from deploy.generated import PARTS_BY_NAME
from deploy.names import PORT, STORES
from deploy.overlays import NAMES, one, rendered
from deploy.render import Manifest
from deploy.sizing import sizes
from meshkit import config
from meshkit.service import ProcessSettings
from tier.parts import PARTS


def _loaded(manifests: list[Manifest], part: str, folder: Path) -> Any:
    file = folder / "settings.yaml"
    file.write_text(one(manifests, "ConfigMap", f"{part}-settings")["data"]["settings.yaml"])
    pod = one(manifests, "Deployment", part)["spec"]["template"]["spec"]
    # References to secrets and to the pod's name have values in a cluster alone.
    environ = {each["name"]: each.get("value", "x") for each in pod["containers"][0]["env"]}
    cls: type[ProcessSettings] = import_module(f"services.{part}.settings").Settings
    return config.load(cls, path=file, environ=environ)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", PARTS_BY_NAME)
def test_every_service_takes_its_settings(name: str, part: str, tmp_path: Path) -> None:
    """With the variables of its pod, as its own program reads them."""
    settings = _loaded(rendered(name), part, tmp_path)
    calls = next(each.calls for each in PARTS if each.name == part)
    assert settings.targets == {each: f"{each}:{PORT}" for each in calls}
    assert settings.address == f"0.0.0.0:{PORT}"
    assert settings.nats_replicas == 3
    pod = one(rendered(name), "Deployment", part)["spec"]["template"]["spec"]
    assert settings.drain_seconds < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("part", ["coordinator", "executor"])
def test_who_makes_the_log_knows_its_partitions(part: str, tmp_path: Path) -> None:
    """Both the same, and as many as the load takes."""
    settings = _loaded(rendered("production-large"), part, tmp_path)
    assert settings.task_partitions == sizes(100_000).partitions


def test_services_are_told_where_the_stores_are(tmp_path: Path) -> None:
    """By the names and ports of their Services."""
    manifests = rendered("production")
    coordinator = _loaded(manifests, "coordinator", tmp_path)
    assert coordinator.nats_url == f"nats://nats:{STORES['nats'][0]}"
    assert coordinator.redis_url == f"redis://redis:{STORES['redis'][0]}"
    memory = _loaded(manifests, "memory", tmp_path).memory
    assert memory.qdrant_url == f"http://qdrant:{STORES['qdrant'][0]}"
    reasoning = _loaded(manifests, "reasoning", tmp_path).reasoning
    assert reasoning.triton_target == f"triton:{STORES['triton'][0]}"
