"""Tests of the sizes of loads, and that the overlays have them."""

import pytest

from deploy.overlays import of_kind, one, rendered
from deploy.sizing import LEVELS, Size, Sizes, sizes
from tasklog.partitions import Partitions


def test_a_hundred_thousand_a_minute() -> None:
    """1,667 tasks a second, by the arithmetic of docs/scaling.md."""
    assert sizes(100_000) == Sizes(
        services={
            # 1.4 cores at 60 %; 8,333 tasks that wait for models, 176 in each, and twice that.
            "executor": Size(4, 96),
            "coordinator": Size(5, 12),
            "reasoning": Size(3, 6),
            "tool": Size(2, 3),
            "governor": Size(2, 3),
            "memory": Size(2, 3),
        },
        partitions=16,
        nats_cores=1,
        nats_disk_gib=4_300,
        postgres_cores=1,
    )


def test_the_smallest_has_two_of_everything() -> None:
    """One may be lost, or upgraded, at any time."""
    small = sizes(50)
    assert {each.least for each in small.services.values()} == {2}
    assert (small.partitions, small.nats_cores, small.nats_disk_gib) == (1, 1, 20)


@pytest.mark.parametrize(("fewer", "more"), [LEVELS[:2], LEVELS[1:]])
def test_more_load_never_takes_less(fewer: int, more: int) -> None:
    """In none of the figures."""
    small, large = sizes(fewer), sizes(more)
    for name, size in small.services.items():
        assert size.least <= large.services[name].least
        assert size.most <= large.services[name].most
    assert small.partitions <= large.partitions
    assert small.nats_disk_gib <= large.nats_disk_gib


@pytest.mark.parametrize(
    ("name", "level"), [("staging", 50), ("production", 5_000), ("production-large", 100_000)]
)
def test_an_overlay_is_as_large_as_its_load(name: str, level: int) -> None:
    """Autoscalers have the least and the most of each service, and NATS its disk."""
    manifests, expected = rendered(name), sizes(level)
    for each in of_kind(manifests, "HorizontalPodAutoscaler"):
        if size := expected.services.get(each["metadata"]["name"]):
            assert (each["spec"]["minReplicas"], each["spec"]["maxReplicas"]) == (
                size.least,
                size.most,
            )
    executors = one(manifests, "ScaledObject", "executor")["spec"]
    size = expected.services["executor"]
    assert (executors["minReplicaCount"], executors["maxReplicaCount"]) == (size.least, size.most)
    claim = one(manifests, "StatefulSet", "nats")["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["resources"]["requests"]["storage"] == f"{expected.nats_disk_gib}Gi"


@pytest.mark.parametrize(("name", "level"), [("staging", 50), ("production-large", 100_000)])
def test_executors_are_scaled_by_the_queues_of_each_lane(name: str, level: int) -> None:
    """The consumers are those that the task log makes, in the tenant's own stream."""
    triggers = one(rendered(name), "ScaledObject", "executor")["spec"]["triggers"]
    watched = [each["metadata"] for each in triggers if each["type"] == "nats-jetstream"]
    stream = Partitions(sizes(level).partitions).of("default").stream
    assert [(each["stream"], each["consumer"]) for each in watched] == [
        (stream, "queue-interactive-0-default"),
        (stream, "queue-standard-0-default"),
        (stream, "queue-batch-0-default"),
    ]
    assert triggers[-1]["type"] == "cpu"
