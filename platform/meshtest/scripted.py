"""Models, tools, memory and governor that follow a script, at their real contracts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agentmesh.common.v1 import conversation_pb2, tier_pb2, usage_pb2
from agentmesh.common.v1.conversation_pb2 import Message, Part, ToolCall, ToolResult
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as governor_grpc
from agentmesh.memory.v1 import memory_service_pb2 as memory
from agentmesh.memory.v1 import memory_service_pb2_grpc as memory_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as reasoning_grpc
from agentmesh.reasoning.v1.model_pb2 import Model
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from agentmesh.tool.v1 import tool_service_pb2_grpc as tool_grpc
from meshkit.batch import serve_stream
from meshkit.errors import MeshError, RequestIdReused, to_status
from meshkit.server import Registration

Answer = Callable[[reasoning.GenerateRequest], Awaitable[reasoning.GenerateResponse]]
Execution = Callable[[tool.ExecuteToolRequest], Awaitable[ToolResult]]
_Context = Any


def says(text: str) -> reasoning.GenerateResponse:
    """A model's last word: 10 tokens in, 5 out, 7 micro-dollars."""
    return reasoning.GenerateResponse(
        message=Message(role=conversation_pb2.ROLE_ASSISTANT, parts=[Part(text=text)]),
        stop_reason=reasoning.STOP_REASON_END,
        model="scripted",
        tier=tier_pb2.MODEL_TIER_FAST,
        usage=usage_pb2.Usage(input_tokens=10, output_tokens=5, cost_micros=7, model_calls=1),
    )


def calls(*tools: ToolCall) -> reasoning.GenerateResponse:
    """A model's wish to have tools called."""
    answer = says("")
    answer.message.ClearField("parts")
    answer.message.tool_calls.extend(tools)
    answer.stop_reason = reasoning.STOP_REASON_TOOL_CALLS
    return answer


class ScriptedReasoning(reasoning_grpc.ReasoningServiceServicer):
    """Answers with what `answer` gives; remembers the requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[reasoning.GenerateRequest] = []
        # How long each caller would wait, in seconds.
        self.timeouts: list[float] = []
        # What ListModels answers.
        self.models: list[Model] = []
        # What streams break off with, once their words are out; None where they do not.
        self.breaking: MeshError | None = None

    async def Generate(
        self, request: reasoning.GenerateRequest, context: _Context
    ) -> reasoning.GenerateResponse:
        self.requests.append(request)
        return await self.answer(request)

    async def ListModels(
        self, request: reasoning.ListModelsRequest, context: _Context
    ) -> reasoning.ListModelsResponse:
        return reasoning.ListModelsResponse(models=self.models)

    async def BatchGenerateStream(
        self,
        request_iterator: AsyncIterator[reasoning.BatchGenerateStreamRequest],
        context: _Context,
    ) -> AsyncIterator[reasoning.BatchGenerateStreamResponse]:
        async def one(item: reasoning.BatchGenerateItem) -> reasoning.GenerateResponse:
            self.timeouts.append(item.context.timeout.ToNanoseconds() / 1e9)
            return await self.Generate(item.request, context)

        async for some in serve_stream(request_iterator, lambda item: item.context, one):
            yield reasoning.BatchGenerateStreamResponse(
                results=[
                    reasoning.BatchGenerateResult(index=index, error=to_status(outcome))
                    if isinstance(outcome, MeshError)
                    else reasoning.BatchGenerateResult(index=index, response=outcome)
                    for index, outcome in some
                ]
            )

    async def GenerateStream(
        self, request: reasoning.GenerateStreamRequest, context: _Context
    ) -> AsyncIterator[reasoning.GenerateStreamResponse]:
        self.timeouts.append(context.time_remaining())
        answer = await self.Generate(request.request, context)
        for part in answer.message.parts:
            for word in part.text.split(" "):
                yield reasoning.GenerateStreamResponse(text_delta=f"{word} ")
        if self.breaking is not None:
            raise self.breaking
        yield reasoning.GenerateStreamResponse(response=answer)


class ScriptedTools(tool_grpc.ToolServiceServicer):
    """Offers the tool `effect` and what else is in `tools`; answers with what `execute` gives."""

    def __init__(self, execute: Execution, effect: tool_pb2.Effect) -> None:
        self.execute = execute
        self.tool = tool_pb2.Tool(tool_id="effect", effect=effect, description="Does something.")
        self.tools = [self.tool]
        self.requests: list[tool.ExecuteToolRequest] = []
        # How long each caller would wait, in seconds.
        self.timeouts: list[float] = []
        # What ListTools fails with; None while it answers.
        self.listing: MeshError | None = None

    async def ListTools(
        self, request: tool.ListToolsRequest, context: _Context
    ) -> tool.ListToolsResponse:
        if self.listing is not None:
            raise self.listing
        return tool.ListToolsResponse(tools=self.tools)

    async def BatchExecuteToolsStream(
        self,
        request_iterator: AsyncIterator[tool.BatchExecuteToolsStreamRequest],
        context: _Context,
    ) -> AsyncIterator[tool.BatchExecuteToolsStreamResponse]:
        async def one(item: tool.BatchExecuteToolsItem) -> tool.ExecuteToolResponse:
            self.requests.append(item.request)
            self.timeouts.append(item.context.timeout.ToNanoseconds() / 1e9)
            return tool.ExecuteToolResponse(result=await self.execute(item.request))

        async for some in serve_stream(request_iterator, lambda item: item.context, one):
            yield tool.BatchExecuteToolsStreamResponse(
                results=[
                    tool.BatchExecuteToolsResult(index=index, error=to_status(outcome))
                    if isinstance(outcome, MeshError)
                    else tool.BatchExecuteToolsResult(index=index, response=outcome)
                    for index, outcome in some
                ]
            )


class ScriptedMemory(memory_grpc.MemoryServiceServicer):
    """Sessions in a dictionary."""

    def __init__(self) -> None:
        # By session and request id.
        self.sessions: dict[str, dict[str, list[Message]]] = {}
        # What came under each request id.
        self.seen: dict[str, bytes] = {}

    async def AppendMessages(
        self, request: memory.AppendMessagesRequest, context: _Context
    ) -> memory.AppendMessagesResponse:
        content = request.SerializeToString(deterministic=True)
        if self.seen.setdefault(request.request_id, content) != content:
            raise RequestIdReused(f"request_id {request.request_id!r} was used for other messages.")
        self.sessions.setdefault(request.session, {})[request.request_id] = [*request.messages]
        return memory.AppendMessagesResponse()

    async def GetContext(
        self, request: memory.GetContextRequest, context: _Context
    ) -> memory.GetContextResponse:
        said = self.sessions.get(request.session, {}).values()
        return memory.GetContextResponse(messages=[message for some in said for message in some])


class ScriptedGovernor(governor_grpc.CostGovernorServiceServicer):
    """Answers ExplainBudget with `explanation`."""

    def __init__(self) -> None:
        self.explanation = governor.ExplainBudgetResponse()

    async def ExplainBudget(
        self, request: governor.ExplainBudgetRequest, context: _Context
    ) -> governor.ExplainBudgetResponse:
        return self.explanation


def registrations(*servicers: object) -> list[Registration]:
    """How scripted services are served."""
    kinds: list[tuple[type, str, Callable[[Any, Any], None]]] = [
        (
            ScriptedReasoning,
            "agentmesh.reasoning.v1.ReasoningService",
            reasoning_grpc.add_ReasoningServiceServicer_to_server,
        ),
        (
            ScriptedTools,
            "agentmesh.tool.v1.ToolService",
            tool_grpc.add_ToolServiceServicer_to_server,
        ),
        (
            ScriptedMemory,
            "agentmesh.memory.v1.MemoryService",
            memory_grpc.add_MemoryServiceServicer_to_server,
        ),
        (
            ScriptedGovernor,
            "agentmesh.governor.v1.CostGovernorService",
            governor_grpc.add_CostGovernorServiceServicer_to_server,
        ),
    ]
    return [
        Registration(service_name=name, add=add, servicer=servicer)
        for servicer in servicers
        for kind, name, add in kinds
        if isinstance(servicer, kind)
    ]
