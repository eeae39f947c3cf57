"""The tool service's composition root."""

from collections.abc import Sequence

from agentmesh.memory.v1 import memory_service_pb2_grpc
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from meshkit.unbroken import Unbroken
from services.tool.calculator import CalculatorTool
from services.tool.call_record_redis import RedisCallRecords
from services.tool.current_time import CurrentTimeTool
from services.tool.documents_grpc import GrpcDocuments
from services.tool.executor import ToolExecutor
from services.tool.search_memory import SearchMemoryTool
from services.tool.service import ToolService
from services.tool.settings import Settings, ToolSettings
from services.tool.stub_tool import StubTool
from services.tool.tool import Tool


async def build(resources: Resources, section: ToolSettings) -> Service:
    """The tool service on these resources."""
    memory = memory_service_pb2_grpc.MemoryServiceStub(resources.channels.get("memory"))
    unbroken = Unbroken()
    resources.stack.push_async_callback(unbroken.close)
    executor = ToolExecutor(
        [
            CalculatorTool(),
            CurrentTimeTool(resources.clock),
            SearchMemoryTool(GrpcDocuments(memory, timeout_seconds=section.memory_timeout_seconds)),
            *_stubs(section),
        ],
        records=RedisCallRecords(
            resources.redis, resources.clock, keep_seconds=section.keep_record_seconds
        ),
        unbroken=unbroken,
        clock=resources.clock,
        ids=resources.ids,
        log=resources.log,
    )
    # The server itself answers the methods that this version does not serve.
    servicer = ToolService(executor)  # pyright: ignore[reportAbstractUsage]
    return Service(
        registrations=[
            Registration(
                service_name="agentmesh.tool.v1.ToolService",
                add=pb_grpc.add_ToolServiceServicer_to_server,
                servicer=servicer,
                # No dependencies: Redis only has the record of calls that change
                # something, and the memory service only what one tool looks for.
            )
        ]
    )


def _stubs(section: ToolSettings) -> Sequence[Tool]:
    """The stub tool, where the settings ask for one."""
    if section.stub_latency_ms is None:
        return ()
    return (StubTool(latency_seconds=section.stub_latency_ms / 1000),)


def main() -> None:
    """Runs the tool service as a process of its own."""
    serve_program("tool", Settings, lambda resources, s: build(resources, s.tool))


if __name__ == "__main__":
    main()
