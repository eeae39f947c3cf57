"""The queues' limits, changed while others change them too."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as task_pb
from agentmesh.coordinator.v1 import queue_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceServicer
from cli.command_mesh import Commands, commands_for
from meshkit.errors import Conflict


class _Queues(QueueServiceServicer):
    """A policy under an etag, as the coordinator keeps it."""

    def __init__(self) -> None:
        self.policy = pb.QueuePolicy(shared_workers=4, default_tenant_tier="free")
        for lane in (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH):
            self.policy.lanes.add(lane=lane, workers=lane)
        self.policy.tenant_tiers.add(id="free", weight=1)
        self.policy.tenant_tiers.add(id="big", weight=9)
        self.sequence = 0
        # How often somebody else is quicker.
        self.others = 0
        self.sets = 0

    async def GetQueuePolicy(
        self, request: pb.GetQueuePolicyRequest, context: Any
    ) -> pb.GetQueuePolicyResponse:
        policy = pb.QueuePolicy()
        policy.CopyFrom(self.policy)
        policy.etag = str(self.sequence) if self.sequence else ""
        return pb.GetQueuePolicyResponse(policy=policy)

    async def SetQueuePolicy(
        self, request: pb.SetQueuePolicyRequest, context: Any
    ) -> pb.SetQueuePolicyResponse:
        self.sets += 1
        if self.others:
            self.others -= 1
            self.sequence += 1
            self.policy.shared_workers += 1
        if request.policy.etag and request.policy.etag != str(self.sequence):
            raise Conflict("The policy has changed.")
        self.sequence += 1
        self.policy.CopyFrom(request.policy)
        self.policy.etag = str(self.sequence)
        return pb.SetQueuePolicyResponse(policy=self.policy)


class _Coordinator(CoordinatorServiceServicer):
    def __init__(self) -> None:
        self.parents: list[str] = []

    async def GetQueueStats(
        self, request: task_pb.GetQueueStatsRequest, context: Any
    ) -> task_pb.GetQueueStatsResponse:
        self.parents.append(request.parent)
        return task_pb.GetQueueStatsResponse(
            lanes=[
                task_pb.LaneStats(lane=tier_pb2.LANE_BATCH, queued=1200, running=8, max_queued=5000)
            ]
        )


@pytest.fixture
async def queues() -> _Queues:
    return _Queues()


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def commands(queues: _Queues, coordinator: _Coordinator) -> AsyncIterator[Commands]:
    async with commands_for(QueueService=queues, CoordinatorService=coordinator) as commands:
        yield commands


async def test_stats_are_a_line_for_each_lane(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The tenant's own, or those of all tenants."""
    shown = (await commands.run("queue", "stats")).stdout.splitlines()
    assert shown[1].split() == ["batch", "1,200", "8", "0", "5,000", "0"]
    await commands.run("queue", "stats", "--all-tenants")
    assert coordinator.parents == ["tenants/default", "tenants/-"]


@pytest.mark.parametrize("nothing", ["", "all", "none"])
async def test_a_list_is_emptied_back_to_all(
    commands: Commands, queues: _Queues, nothing: str
) -> None:
    """With nothing after the sign, or with the word; a number cannot be nothing."""
    await commands.run("queue", "set", "tier", "free", "allowed_model_tiers=fast")
    result = await commands.run("queue", "set", "tier", "free", f"allowed_model_tiers={nothing}")
    assert result.stdout == "~ tenant_tiers.free.allowed_model_tiers: fast → all\n"
    assert not queues.policy.tenant_tiers[0].allowed_model_tiers
    result = await commands.run("queue", "set", "tier", "free", "weight=")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: weight must be a whole number, not ''.\n",
    )


async def test_single_limits_change_and_the_change_is_shown(
    commands: Commands, queues: _Queues
) -> None:
    """A lane, a tier, a tenant; nothing else of the policy."""
    lane = await commands.run("queue", "set", "lane", "batch", "workers=32", "time_limit=10m")
    assert (lane.exit_code, lane.stderr) == (0, "In force, as etag 1.\n")
    assert lane.stdout.splitlines() == [
        "~ lanes.batch.workers: 3 → 32",
        "+ lanes.batch.time_limit: 10m",
    ]
    assert (await commands.run("queue", "set", "tier", "free", "weight=2")).exit_code == 0
    assert (await commands.run("queue", "set", "tenant", "acme", "--tier", "big")).exit_code == 0
    assert [each.workers for each in queues.policy.lanes] == [1, 2, 32]
    assert queues.policy.tenant_tiers[0].weight == 2
    assert dict(queues.policy.tenants) == {"acme": "big"}
    back = await commands.run("queue", "set", "tenant", "acme", "--default", "--json")
    assert json.loads(back.stdout)["changes"] == ["- tenants.acme: big"]
    assert dict(queues.policy.tenants) == {}


async def test_a_change_is_made_again_on_top_of_anothers(
    commands: Commands, queues: _Queues
) -> None:
    """Neither is lost, although both were read before either was written."""
    queues.others = 2
    assert (await commands.run("queue", "set", "lane", "batch", "workers=9")).exit_code == 0
    assert (queues.policy.shared_workers, queues.policy.lanes[2].workers) == (6, 9)


async def test_a_change_that_never_finds_a_gap_is_given_up(
    commands: Commands, queues: _Queues
) -> None:
    """The conflict is told, and nothing was overwritten."""
    queues.others = 100
    result = await commands.run("queue", "set", "lane", "batch", "workers=9")
    assert result.exit_code == 1
    assert "(CONFLICT)" in result.stderr
    assert (queues.sets, queues.policy.lanes[2].workers) == (5, 3)


async def test_a_change_that_changes_nothing_is_not_sent(
    commands: Commands, queues: _Queues
) -> None:
    """The etag stays."""
    result = await commands.run("queue", "set", "lane", "batch", "workers=3")
    assert (result.exit_code, result.stdout, queues.sets) == (0, "Nothing changes.\n", 0)


async def _written(
    commands: Commands, folder: Path, old: str, new: str, *, etag: bool = True
) -> str:
    """The policy in a file, with a change."""
    text = (await commands.run("queue", "policy")).stdout
    assert old in text
    if not etag:
        text = text.partition("etag:")[0]
    path = folder / "policy.yaml"
    path.write_text(text.replace(old, new))
    return str(path)


async def test_a_whole_policy_is_applied_after_its_difference(
    commands: Commands, queues: _Queues, tmp_path: Path
) -> None:
    """A dry run shows the same and changes nothing."""
    file = await _written(commands, tmp_path, "shared_workers: 4", "shared_workers: 5")
    dry = await commands.run("queue", "apply", file, "--dry-run")
    assert (dry.exit_code, queues.sets) == (0, 0)
    applied = await commands.run("queue", "apply", file)
    assert applied.exit_code == 0
    assert applied.stdout == dry.stdout == "~ shared_workers: 4 → 5\n"
    assert queues.policy.shared_workers == 5
    again = await commands.run("queue", "apply", file)
    assert (again.stdout, queues.sets) == ("Nothing changes.\n", 1)


async def test_a_file_older_than_the_policy_is_refused(
    commands: Commands, queues: _Queues, tmp_path: Path
) -> None:
    """Also one that was made from the built-in policy: what was changed since is not lost."""
    file = await _written(commands, tmp_path, "shared_workers: 4", "shared_workers: 5")
    await commands.run("queue", "set", "lane", "batch", "workers=9")
    result = await commands.run("queue", "apply", file)
    assert result.exit_code == 1
    assert "(CONFLICT)" in result.stderr
    assert queues.policy.shared_workers == 4


async def test_a_file_without_an_etag_replaces_what_was_shown(
    commands: Commands, queues: _Queues, tmp_path: Path
) -> None:
    """What changes between the difference and the call is not lost either."""
    file = await _written(
        commands, tmp_path, "default_tenant_tier: free", "default_tenant_tier: big", etag=False
    )
    queues.others = 1
    assert (await commands.run("queue", "apply", file)).exit_code == 1
    assert (await commands.run("queue", "apply", file)).exit_code == 0
    assert queues.policy.default_tenant_tier == "big"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["set", "lane", "fast", "workers=1"], 2, "'fast' is not one of"),
        (["set", "lane", "batch"], 2, "Missing argument 'KEY=VALUE...'."),
        (["set", "lane", "batch", "workers"], 2, "A setting must be KEY=VALUE"),
        (["set", "lane", "batch", "workers=1", "workers=2"], 2, "workers is given twice."),
        (["set", "lane", "batch", "speed=1"], 1, "There is no setting 'speed'"),
        (["set", "tier", "gold", "weight=1"], 1, "There is no tier 'gold'; there are free, big."),
        (["set", "tenant", "acme"], 2, "Give --tier TIER or --default, one of them."),
        (["apply", "/nowhere.yaml"], 1, "/nowhere.yaml: cannot be read: No such file"),
    ],
)
async def test_what_is_wrong_is_told(
    commands: Commands, queues: _Queues, arguments: list[str], code: int, message: str
) -> None:
    """One line says what there is instead; the policy stays."""
    result = await commands.run("queue", *arguments)
    assert (result.exit_code, queues.sets) == (code, 0)
    assert message in result.stderr
