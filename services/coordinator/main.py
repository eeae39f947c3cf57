"""The coordinator's composition root."""

from agentmesh.access.v1 import access_service_pb2_grpc
from agentmesh.coordinator.v1 import (
    agent_service_pb2_grpc,
    coordinator_service_pb2_grpc,
    queue_service_pb2_grpc,
    read_model_service_pb2_grpc,
    schedule_service_pb2_grpc,
)
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc
from envoyproxy.auth.v3 import external_auth_pb2_grpc
from meshkit.operators import Operators
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from services.coordinator.acceptance import Acceptance
from services.coordinator.access import Access
from services.coordinator.admission_governor import GovernorAdmission
from services.coordinator.agent_service import AgentServicer
from services.coordinator.agent_store_jetstream import JetStreamAgentStore
from services.coordinator.agents import Agents
from services.coordinator.cancel_signal_nats import NatsCancelSignal
from services.coordinator.child_limit import ChildLimit
from services.coordinator.control import Control, consumer
from services.coordinator.coordinator import Coordinator
from services.coordinator.dead_letters import DeadLetters
from services.coordinator.ended_tasks_sql import SqlEndedTasks
from services.coordinator.family import Family
from services.coordinator.linger import Linger
from services.coordinator.parents import Parents
from services.coordinator.projector import task_projector
from services.coordinator.queue_depths import QueueDepths
from services.coordinator.queue_service import QueueServicer
from services.coordinator.queue_stats import QueueStats
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_file import SqliteFiles, remove_former
from services.coordinator.read_model_postgres import PostgresCopies
from services.coordinator.read_model_rebuild import Rebuild
from services.coordinator.read_model_service import ReadModelServicer
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_state import ReadModelState
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.retention import Retention
from services.coordinator.runs import Runs
from services.coordinator.schedule_service import ScheduleServicer
from services.coordinator.schedule_store_jetstream import TICKS, JetStreamScheduleStore
from services.coordinator.schedule_ticks import Ticks
from services.coordinator.schedules import Schedules
from services.coordinator.service import CoordinatorServicer
from services.coordinator.settings import CoordinatorSettings, Settings
from services.coordinator.signals import Signals
from services.coordinator.task_content_jetstream import JetStreamTaskContent
from services.coordinator.tenant_limits import QueueLimit, SubmitRate
from services.coordinator.timers import Timers
from services.coordinator.waits import Waits
from sqlstore.postgres_schema import parse_address
from tasklog import partition_store
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.task_log import TaskLog


async def build(resources: Resources, settings: CoordinatorSettings) -> Service:
    """Makes the coordinator and its agents from what the process offers."""
    bus = resources.bus
    partitions = await partition_store.settle(bus, resources.task_partitions)
    log = TaskLog(bus, partitions)
    await log.prepare()
    policies = PolicyStore(bus)
    await policies.prepare()
    operators = Operators(settings.operators)
    queues = Queues(bus, partitions, policies)
    depths = QueueDepths(queues, resources.clock)
    writer = f"coordinator/{resources.ids.new()}"
    store = JetStreamAgentStore(bus)
    await store.prepare()
    agents = Agents(store, resources.clock)
    database = await _read_model(resources, settings)
    resources.stack.push_async_callback(database.close)
    read_model = SqlReadModel(database)
    copy = ReadModelWriter(database)
    projector = task_projector(bus, copy, resources.log, partitions=partitions.all)
    rebuild = Rebuild(bus, database, resources.log, partitions=partitions.all)
    acceptance = Acceptance(
        log=log,
        queues=queues,
        policies=policies,
        agents=agents,
        clock=resources.clock,
        writer=writer,
    )
    budget = GovernorAdmission(
        cost_governor_service_pb2_grpc.CostGovernorServiceStub(resources.channels.get("governor")),
        resources.clock,
    )
    parents = Parents(log)
    queue_limit = QueueLimit(policies, depths)
    coordinator = Coordinator(
        log=log,
        acceptance=acceptance,
        gates=(
            parents,
            budget,
            SubmitRate(policies, resources.clock),
            queue_limit,
            ChildLimit(read_model, resources.clock),
        ),
        parents=parents,
        cancel_signal=NatsCancelSignal(bus),
        clock=resources.clock,
        ids=resources.ids,
        writer=writer,
    )
    dead_letters = DeadLetters(
        log=log, queues=queues, letters=read_model, clock=resources.clock, writer=writer
    )
    content = JetStreamTaskContent(bus, partitions)
    await content.prepare()
    retention = Retention(
        ended=SqlEndedTasks(database),
        log=log,
        content=content,
        policies=policies,
        clock=resources.clock,
        writer=writer,
        journal=resources.log,
    )
    projector.on_applied(retention.look)
    policies.on_change(retention.look)
    control = Control(
        waits=Waits(
            log,
            Family(log, acceptance, coordinator, gates=(queue_limit,)),
            resources.clock,
            writer=writer,
        ),
        canceller=coordinator,
        children=read_model,
        projection=projector,
        clock=resources.clock,
    )
    schedules = JetStreamScheduleStore(bus)
    await schedules.prepare()
    access = await Access.build(resources, settings)
    ticks = Ticks(
        store=schedules,
        log=log,
        acceptance=acceptance,
        gates=(parents, budget, queue_limit),
        clock=resources.clock,
        ids=resources.ids,
    )
    return Service(
        registrations=(
            Registration(
                service_name="agentmesh.coordinator.v1.CoordinatorService",
                add=coordinator_service_pb2_grpc.add_CoordinatorServiceServicer_to_server,
                servicer=CoordinatorServicer(  # pyright: ignore[reportAbstractUsage]
                    coordinator,
                    Runs(coordinator, log, bus, Linger(policies, resources.clock)),
                    Signals(log, resources.clock, writer=writer),
                    dead_letters,
                    read_model,
                    QueueStats(depths, policies),
                    bus,
                    settings,
                    operators,
                ),
                dependencies=(bus,),
            ),
            Registration(
                service_name="agentmesh.coordinator.v1.AgentService",
                add=agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
                servicer=AgentServicer(agents),  # pyright: ignore[reportAbstractUsage]
                dependencies=(bus,),
            ),
            Registration(
                service_name="agentmesh.coordinator.v1.QueueService",
                add=queue_service_pb2_grpc.add_QueueServiceServicer_to_server,
                servicer=QueueServicer(policies, operators),
                dependencies=(bus,),
            ),
            Registration(
                service_name="agentmesh.coordinator.v1.ReadModelService",
                add=read_model_service_pb2_grpc.add_ReadModelServiceServicer_to_server,
                servicer=ReadModelServicer(
                    ReadModelState(bus, database, copy, resources.clock, partitions=partitions.all),
                    rebuild,
                    operators,
                ),
                dependencies=(bus,),
            ),
            Registration(
                service_name="agentmesh.coordinator.v1.ScheduleService",
                add=schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server,
                servicer=ScheduleServicer(
                    Schedules(schedules, agents, resources.clock, resources.ids)
                ),
                dependencies=(bus,),
            ),
            Registration(
                service_name="agentmesh.access.v1.AccessService",
                add=access_service_pb2_grpc.add_AccessServiceServicer_to_server,
                servicer=access.keys,
                dependencies=(bus,),
            ),
            Registration(
                service_name="envoy.service.auth.v3.Authorization",
                add=external_auth_pb2_grpc.add_AuthorizationServicer_to_server,
                servicer=access.authorization,
                dependencies=(bus,),
                guarded=False,
            ),
        ),
        background=(
            projector.run,
            rebuild.run,
            *(
                Timers(
                    bus, consumer(each), control.attend, clock=resources.clock, log=resources.log
                ).run
                for each in partitions.all
            ),
            Timers(bus, TICKS, ticks.on_delivery, clock=resources.clock, log=resources.log).run,
            retention.run,
            policies.follow,
            queues.follow_policy,
            depths.keep,
            *access.background,
        ),
    )


async def _read_model(
    resources: Resources, settings: CoordinatorSettings
) -> SqliteFiles | PostgresCopies:
    folder = resources.data_dir / "coordinator" / "read_model"
    remove_former(folder)
    if settings.read_model:
        url = parse_address(settings.read_model, setting=PURPOSE.setting)
        return await PostgresCopies.open(url, resources.log)
    return await SqliteFiles.open(folder, resources.ids)


def main() -> None:
    """Runs the coordinator as a process of its own."""
    serve_program("coordinator", Settings, lambda resources, s: build(resources, s.coordinator))


if __name__ == "__main__":
    main()
