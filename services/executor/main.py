"""The executor's composition root."""

import random

from agentmesh.memory.v1 import memory_service_pb2_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc
from agentmesh.tool.v1 import tool_service_pb2_grpc
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from services.executor.agents import Agents
from services.executor.claim import Claims
from services.executor.failures import Failures
from services.executor.history import Histories
from services.executor.model_step import ModelStep
from services.executor.models_grpc import GrpcModels
from services.executor.runner import Runner
from services.executor.session_memory import SessionMemory
from services.executor.sessions_grpc import GrpcSessions
from services.executor.settings import ExecutorSettings, Settings
from services.executor.snapshots_jetstream import JetStreamSnapshots
from services.executor.tool_use import ToolUse
from services.executor.tools_grpc import GrpcTools
from services.executor.words_nats import NatsWords
from services.executor.worker import Worker
from tasklog import partition_store
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.task_log import TaskLog


async def build(resources: Resources, settings: ExecutorSettings) -> Service:
    """Makes an executor from what the process offers."""
    bus, clock, channels = resources.bus, resources.clock, resources.channels
    partitions = await partition_store.settle(bus, resources.task_partitions)
    log = TaskLog(bus, partitions)
    await log.prepare()
    policies = PolicyStore(bus)
    await policies.prepare()
    models = GrpcModels(
        reasoning_service_pb2_grpc.ReasoningServiceStub(channels.get("reasoning")),
        clock,
        timeout_seconds=settings.model_timeout_seconds,
    )
    tools = GrpcTools(
        tool_service_pb2_grpc.ToolServiceStub(channels.get("tool")),
        clock,
        timeout_seconds=settings.tool_timeout_seconds,
    )
    sessions = GrpcSessions(
        memory_service_pb2_grpc.MemoryServiceStub(channels.get("memory")),
        timeout_seconds=settings.memory_timeout_seconds,
        context_tokens=settings.context_tokens,
    )
    agents = Agents(
        model=ModelStep(models, NatsWords(bus), clock, policies),
        use=ToolUse(tools, clock, policies),
        memory=SessionMemory(sessions),
    )
    snapshots = JetStreamSnapshots(bus)
    await snapshots.prepare()
    histories = Histories(log=log, store=snapshots, lines=resources.log)
    claims = Claims(
        log=log,
        histories=histories,
        clock=clock,
        writer=f"executor/{resources.ids.new()}",
        policies=policies,
    )
    runner = Runner(
        claims=claims,
        agents=agents,
        failures=Failures(policies, clock, random.Random(resources.ids.new())),
        clock=clock,
        log=resources.log,
    )
    worker = Worker(
        bus=bus,
        partitions=partitions,
        queues=Queues(bus, partitions, policies),
        runner=runner,
        log=resources.log,
        policies=policies,
    )
    return Service(
        # It serves no calls of its own; its health is asked for by this name.
        registrations=(
            Registration(
                service_name="agentmesh.executor.v1.Executor",
                add=None,
                servicer=worker,
                dependencies=(bus,),
            ),
        ),
        callers=(worker.run,),
        background=(policies.follow, histories.run),
    )


def main() -> None:
    """Runs an executor as a process of its own."""
    serve_program("executor", Settings, lambda resources, s: build(resources, s.executor))


if __name__ == "__main__":
    main()
