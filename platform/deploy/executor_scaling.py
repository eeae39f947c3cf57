"""KEDA's way to scale executors: by the depth of the queues, lane by lane."""

from collections.abc import Sequence
from typing import Any, Final

from deploy.names import NAMESPACE, resource
from deploy.sizing import Size
from tasklog.partitions import Partitions
from tasklog.subjects import LANES, durable_of

# Tasks that one executor of the built-in policy works on, by lane: as many may wait for each.
_WORKERS: Final = {"interactive": 32, "standard": 64, "batch": 16}
# What a task has whose submitter named none.
_PRIORITY: Final = 0
_MONITOR: Final = f"nats-peers.{NAMESPACE}.svc.cluster.local:8222"


def executor_scaling(size: Size, tenants: Sequence[str], partitions: int) -> dict[str, Any]:
    """The ScaledObject of the executors.

    KEDA looks at consumers by name, and each tenant, lane and priority has its own: those of
    `tenants` are watched. What others have queued shows as processor time, which counts, too.
    """
    cut = Partitions(partitions)
    triggers: list[dict[str, Any]] = [
        {
            "type": "nats-jetstream",
            "name": f"{lane}-{tenant}",
            "metadata": {
                "natsServerMonitoringEndpoint": _MONITOR,
                "account": "$G",
                "stream": cut.of(tenant).stream,
                "consumer": durable_of(tenant, f"{lane}-{_PRIORITY}"),
                "lagThreshold": str(_WORKERS[lane]),
                "activationLagThreshold": "0",
                "useHttps": "false",
            },
        }
        for tenant in tenants
        for lane in LANES.values()
    ]
    triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "120"}})
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        # An executor that ends gives its tasks back, and each costs a step.
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 20, "periodSeconds": 60}],
        },
    }
    return resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        "executor",
        {
            "scaleTargetRef": {"name": "executor"},
            "minReplicaCount": size.least,
            "maxReplicaCount": size.most,
            "pollingInterval": 5,
            # Where NATS cannot be asked, or a tenant has no queue yet, there are as many as ever.
            "fallback": {
                "failureThreshold": 3,
                "replicas": size.least,
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": triggers,
        },
    )
