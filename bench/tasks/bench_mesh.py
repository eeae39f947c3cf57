"""A mesh for one benchmark: in a folder of its own, with the stub model and the stub tool."""

import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.queue_service_pb2 import (
    GetQueuePolicyRequest,
    SetQueuePolicyRequest,
)
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from bench.tasks.scratch import scratch
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from tier.api import MeshOptions, Progress, RunningMesh, Tier, start

AGENT: Final = "bench"
# Of staging that flushes every write.
_COUNTERS: Final = "redis-counters"
_CALLER: Final = "user:bench"
_TIER: Final = "limited"
_CALL_SECONDS: Final = 10.0
# Spending is counted against limits as ever, and these are out of reach.
_LIMIT_MICROS: Final = 1_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class MeshPlan:
    """How the mesh of a benchmark differs from one that `agentmesh up` starts."""

    tier: Tier
    executors: int
    # Whether NATS flushes each write before it acknowledges; None for what the tier does.
    sync_always: bool | None
    # How long each call of the stub model and of the stub tool takes.
    latency_ms: int
    # Processes of governor, reasoning and tool each.
    replicas: int = 1
    # Into how many streams the task log is cut.
    task_partitions: int = 1
    # Without TLS between the processes.
    no_mtls: bool = False

    @property
    def flushes(self) -> bool:
        """Whether NATS flushes each write before it acknowledges."""
        return MeshOptions(tier=self.tier, sync_always=self.sync_always).flushes


@asynccontextmanager
async def bench_mesh(
    plan: MeshPlan, tenants: Sequence[str], progress: Progress
) -> AsyncGenerator[RunningMesh]:
    """A mesh in which each of the tenants has the agent `bench`; gone afterwards, with its data.

    Raises MeshStartError where it does not start.
    """
    with scratch(Path(tempfile.gettempdir())) as folder:
        config = folder / "bench.yaml"
        config.write_text(yaml.safe_dump(_settings(plan.latency_ms)), "utf-8")
        options = MeshOptions(
            tier=plan.tier,
            data_dir=folder / "data",
            port=0,
            config=config,
            executors=plan.executors,
            replicas=plan.replicas,
            task_partitions=plan.task_partitions,
            sync_always=plan.sync_always,
            # Its callers are no subject of it.
            no_auth=True,
            no_mtls=plan.no_mtls,
        )
        async with await start(options, progress) as mesh:
            await _create_agents(mesh.address, tenants)
            yield mesh


def _settings(latency_ms: int) -> Mapping[str, Any]:
    return {
        "reasoning": {"stub_latency_ms": latency_ms, "tiers": {"fast": ["stub"]}},
        "tool": {"stub_latency_ms": latency_ms},
        "governor": {
            "day_limit_micros": _LIMIT_MICROS,
            "month_limit_micros": _LIMIT_MICROS,
            # As the gateway knows everybody: a benchmark asks the governor itself, too.
            "spenders": ["user:anonymous"],
        },
    }


async def _create_agents(address: str, tenants: Sequence[str]) -> None:
    spec = AgentSpec(
        description="The reference task: a model step, a tool step, a model step.",
        instructions="Call the tool, then answer.",
        tools=["stub"],
        tier=tier_pb2.MODEL_TIER_FAST,
    )
    async with Channels({"gateway": address}, caller=_CALLER) as channels:
        agents = AgentServiceStub(channels.get("gateway"))
        for tenant in tenants:
            with identity.use(Identity(tenant, _CALLER)):
                await agents.CreateAgent(
                    CreateAgentRequest(parent=f"tenants/{tenant}", agent_id=AGENT, spec=spec),
                    timeout=_CALL_SECONDS,
                )


async def limit(address: str, tenant: str, per_second: float) -> None:
    """Gives a tenant a tier of its own: the default one, with so many requests a second."""
    async with Channels({"gateway": address}, caller=_CALLER) as channels:
        queues = QueueServiceStub(channels.get("gateway"))
        with identity.use(Identity(tenant, _CALLER)):
            answer = await queues.GetQueuePolicy(GetQueuePolicyRequest(), timeout=_CALL_SECONDS)
            policy = answer.policy
            tier = policy.tenant_tiers.add()
            tier.CopyFrom(
                next(each for each in policy.tenant_tiers if each.id == policy.default_tenant_tier)
            )
            tier.id, tier.requests_per_second, tier.request_burst = _TIER, per_second, 0
            policy.tenants[tenant] = tier.id
            await queues.SetQueuePolicy(SetQueuePolicyRequest(policy=policy), timeout=_CALL_SECONDS)


def broker_url(mesh: RunningMesh) -> str:
    """Of the mesh's NATS."""
    return f"nats://127.0.0.1:{_port(mesh, 'nats')}"


def redis_url(mesh: RunningMesh) -> str:
    """Of the mesh's Redis."""
    return f"redis://127.0.0.1:{_port(mesh, 'redis')}"


def counters_url(mesh: RunningMesh) -> str:
    """Of the Redis that has the counters of budgets."""
    apart = any(each.name == _COUNTERS for each in mesh.state.processes)
    return f"redis://127.0.0.1:{_port(mesh, _COUNTERS)}" if apart else redis_url(mesh)


def _port(mesh: RunningMesh, name: str) -> int:
    return next(each.ports[0] for each in mesh.state.processes if each.name == name)
