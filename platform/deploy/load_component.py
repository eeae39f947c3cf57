"""The Kustomize component that makes the mesh as large as a load needs."""

from collections.abc import Sequence
from typing import Any, Final

import yaml

from deploy.executor_scaling import executor_scaling
from deploy.sizing import Sizes

_FILE: Final = "executor-scaling.yaml"
_CONTAINER: Final = "/spec/template/spec/containers/0"


def component(sizes: Sizes, tenants: Sequence[str]) -> dict[str, Any]:
    """Its files by name, as what they hold."""
    patches = [
        _patch(
            "HorizontalPodAutoscaler", name, {"minReplicas": size.least, "maxReplicas": size.most}
        )
        for name, size in sizes.services.items()
        if name != "executor"
    ]
    # Only these make the log; others ask what is there.
    if sizes.partitions > 1:
        for name in ("coordinator", "executor"):
            variable = {"name": "AGENTMESH_TASK_PARTITIONS", "value": str(sizes.partitions)}
            patches.append(_operations("Deployment", name, [_add(_CONTAINER + "/env/-", variable)]))
    nats = _resources(sizes.nats_cores, 2 * sizes.nats_cores)
    disk = f"{sizes.nats_disk_gib}Gi"
    patches += [
        _operations(
            "StatefulSet",
            "nats",
            [
                _replace(_CONTAINER + "/resources", nats),
                _replace(_CONTAINER + "/env/1/value", f"{1638 * sizes.nats_cores}MiB"),
                _replace("/spec/volumeClaimTemplates/0/spec/resources/requests/storage", disk),
            ],
        ),
        _patch(
            "Cluster",
            "postgres",
            {"resources": _resources(sizes.postgres_cores, 2 * sizes.postgres_cores)},
        ),
    ]
    return {
        "kustomization.yaml": {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "resources": [_FILE],
            "patches": patches,
        },
        _FILE: executor_scaling(sizes.services["executor"], tenants, sizes.partitions),
    }


def _resources(cores: int, gib: int) -> dict[str, Any]:
    return {
        "requests": {"cpu": str(cores), "memory": f"{gib}Gi"},
        "limits": {"cpu": str(2 * cores), "memory": f"{gib}Gi"},
    }


def _patch(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _operations(kind, name, [_replace(f"/spec/{key}", value) for key, value in spec.items()])


def _operations(kind: str, name: str, operations: Sequence[Any]) -> dict[str, Any]:
    return {
        "target": {"kind": kind, "name": name},
        "patch": yaml.safe_dump(list(operations), sort_keys=False),
    }


def _replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}
