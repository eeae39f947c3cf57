"""The tool service as it is put together, behind a real gRPC server."""

import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import Citation, ToolCall, ToolResult
from agentmesh.memory.v1 import document_pb2, memory_service_pb2, memory_service_pb2_grpc
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as pb
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit import errors, identity, log, redis_store
from meshkit.client import Channels
from meshkit.constants import BATCH_TENANT
from meshkit.json_struct import to_struct
from meshkit.server import Registration
from meshkit.service import Resources
from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from meshtest.serving import serving
from services.tool.main import build
from services.tool.settings import ToolSettings

_ACME = "tenants/acme"
_RUNBOOK = Citation(
    document="tenants/acme/documents/d1",
    title="Rate limits",
    uri="docs/limits.md",
    start_line=3,
    end_line=5,
    snippet="Back off for a minute.",
    score=0.75,
)
_PAPER = Citation(document="tenants/acme/documents/d2", title="Paper", page=7, snippet="Limits.")


class _Memory(memory_service_pb2_grpc.MemoryServiceServicer):
    """Knows two passages about limits, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, int]] = []

    async def Search(
        self, request: memory_service_pb2.SearchRequest, context: object
    ) -> memory_service_pb2.SearchResponse:
        """Both passages, if asked about limits."""
        tenant = identity.current().tenant
        self.asked.append((tenant, request.parent, request.query, request.limit))
        if not request.query.strip():
            raise errors.InvalidField("query", "must not be empty")
        if "limit" not in request.query:
            return memory_service_pb2.SearchResponse()
        return memory_service_pb2.SearchResponse(
            passages=[
                document_pb2.Passage(
                    citation=_RUNBOOK,
                    headings=["Operations", "Rate limits"],
                    text="Back off for a minute.",
                ),
                document_pb2.Passage(citation=_PAPER, text="Limits."),
            ]
        )


@pytest.fixture
def memory() -> _Memory:
    """The memory service's stand-in."""
    return _Memory()  # pyright: ignore[reportAbstractUsage]


def _resources(stack: AsyncExitStack, channels: Channels, folder: Path) -> Resources:
    return Resources(
        stack=stack,
        bus=cast(Any, None),
        # Nobody listens there: what only reads needs no Redis.
        redis=redis_store.connect("redis://127.0.0.1:1"),
        channels=channels,
        clock=FakeClock(datetime(2026, 7, 1, 12, 30, tzinfo=UTC)),
        ids=FakeIds(),
        log=log.get("tool", stream=io.StringIO()),
        data_dir=folder,
    )


@pytest.fixture
def settings() -> ToolSettings:
    """As it is shipped."""
    return ToolSettings()


@pytest.fixture
async def tools(
    memory: _Memory, settings: ToolSettings, tmp_path: Path
) -> AsyncIterator[pb_grpc.ToolServiceStub]:
    """The service, called for the tenant acme."""
    async with AsyncExitStack() as stack:
        registration = Registration(
            service_name="agentmesh.memory.v1.MemoryService",
            add=memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
            servicer=memory,
        )
        channels = await stack.enter_async_context(serving([registration]))
        service = await build(_resources(stack, channels, tmp_path), settings)
        own = await stack.enter_async_context(serving(service.registrations))
        with identity.use(identity.Identity("acme", "service:executor")):
            yield pb_grpc.ToolServiceStub(own.get("tool"))


def _request(tool: str, **arguments: Any) -> pb.ExecuteToolRequest:
    call = ToolCall(call_id="c1", tool=tool, arguments=to_struct(arguments))
    return pb.ExecuteToolRequest(parent=_ACME, call=call, idempotency_key="t/1")


async def _execute(stub: pb_grpc.ToolServiceStub, tool: str, **arguments: Any) -> ToolResult:
    response = await stub.ExecuteTool(_request(tool, **arguments), timeout=30)
    assert not response.replayed
    return response.result


async def test_tools_are_listed_with_all_that_a_model_needs(tools: pb_grpc.ToolServiceStub) -> None:
    """Built-in tools come in order of their ids, with schema, effect and time limit."""
    response = await tools.ListTools(pb.ListToolsRequest(parent=_ACME), timeout=30)
    assert [each.tool_id for each in response.tools] == [
        "calculator",
        "current_time",
        "search_memory",
    ]
    assert response.next_page_token == ""
    for tool in response.tools:
        assert tool.name == f"tenants/acme/tools/{tool.tool_id}"
        assert (tool.built_in, tool.effect) == (True, tool_pb2.EFFECT_READ_ONLY)
        assert tool.timeout.ToMilliseconds() in (2000, 10_000)
        assert MessageToDict(tool.parameters)["additionalProperties"] is False
        assert tool.description
    (calculator, *_) = response.tools
    assert MessageToDict(calculator.parameters)["required"] == ["expression"]
    get = pb.GetToolRequest(name="tenants/acme/tools/calculator")
    assert (await tools.GetTool(get, timeout=30)).tool == calculator


@pytest.mark.parametrize("settings", [ToolSettings(stub_latency_ms=1)])
async def test_the_stub_tool_is_there_where_a_setting_asks_for_it(
    tools: pb_grpc.ToolServiceStub,
) -> None:
    """It only reads, and answers any text with 200 bytes."""
    listed = await tools.ListTools(pb.ListToolsRequest(parent=_ACME), timeout=30)
    assert [each.tool_id for each in listed.tools] == [
        "calculator",
        "current_time",
        "search_memory",
        "stub",
    ]
    assert listed.tools[3].effect == tool_pb2.EFFECT_READ_ONLY
    result = await _execute(tools, "stub", text="x" * 200)
    assert (len(result.text), result.is_error) == (200, False)


async def test_tools_are_listed_a_page_at_a_time(tools: pb_grpc.ToolServiceStub) -> None:
    """A page's token leads to the next page, and only for the same parent."""
    pages: list[list[str]] = []
    token = ""
    while True:
        request = pb.ListToolsRequest(parent=_ACME, page_size=2, page_token=token)
        response = await tools.ListTools(request, timeout=30)
        pages.append([each.tool_id for each in response.tools])
        if not response.next_page_token:
            break
        token = response.next_page_token
    assert pages == [["calculator", "current_time"], ["search_memory"]]
    for wrong in ("?", "YWNtZQ==", "b3RoZXIvY2FsY3VsYXRvcg=="):
        with pytest.raises(errors.InvalidPageToken):
            await tools.ListTools(pb.ListToolsRequest(parent=_ACME, page_token=wrong), timeout=30)
    with pytest.raises(errors.InvalidField):
        await tools.ListTools(pb.ListToolsRequest(parent=_ACME, page_size=-1), timeout=30)


async def test_calculator_answers_the_bare_value(tools: pb_grpc.ToolServiceStub) -> None:
    """The text is the number itself, and the data has it for programs."""
    result = await _execute(tools, "calculator", expression="17.5% of 2,480")
    assert (result.call_id, result.tool, result.is_error) == ("c1", "calculator", False)
    assert result.text == "434"
    assert MessageToDict(result.data) == {"value": "434", "exact": True}
    third = await _execute(tools, "calculator", expression="1 / 3")
    assert MessageToDict(third.data) == {"value": third.text, "exact": False}


async def test_calculation_without_a_value_is_a_result(tools: pb_grpc.ToolServiceStub) -> None:
    """What cannot be computed is told to the model, and is no error of the call."""
    result = await _execute(tools, "calculator", expression="1 / 0")
    assert (result.is_error, result.text) == (True, "Division by zero.")


async def test_time_is_told_in_the_zone_asked_for(tools: pb_grpc.ToolServiceStub) -> None:
    """UTC if not told otherwise; summer time is kept."""
    assert (await _execute(tools, "current_time")).text == "2026-07-01T12:30:00+00:00"
    berlin = await _execute(tools, "current_time", time_zone="Europe/Berlin")
    assert berlin.text == "2026-07-01T14:30:00+02:00"
    assert MessageToDict(berlin.data) == {
        "time": "2026-07-01T14:30:00+02:00",
        "time_zone": "Europe/Berlin",
        "weekday": "Wednesday",
        "unix_seconds": 1782909000,
    }


@pytest.mark.parametrize("zone", ["Europe/Berlim", "../../etc/passwd", "\x00"])
async def test_unknown_time_zone_is_a_result(tools: pb_grpc.ToolServiceStub, zone: str) -> None:
    """A zone that is none is told to the model; nothing is opened by that name."""
    result = await _execute(tools, "current_time", time_zone=zone)
    assert result.is_error
    assert result.text.startswith(
        f"There is no time zone {zone!r}; IANA names look like Europe/Berlin."
    )


async def test_found_passages_are_numbered_and_cited(
    tools: pb_grpc.ToolServiceStub, memory: _Memory
) -> None:
    """The text numbers passages with where they stand; citations are in the same order."""
    result = await _execute(tools, "search_memory", query="rate limits", limit=2.0)
    assert result.text == (
        "[1] docs/limits.md, lines 3-5 (Operations > Rate limits)\nBack off for a minute.\n\n"
        "[2] Paper, page 7\nLimits."
    )
    assert list(result.citations) == [_RUNBOOK, _PAPER]
    assert memory.asked == [("acme", "tenants/acme", "rate limits", 2)]


async def test_nothing_found_is_an_answer(tools: pb_grpc.ToolServiceStub, memory: _Memory) -> None:
    """An empty search says so, and is no error."""
    result = await _execute(tools, "search_memory", query="weather")
    assert (result.is_error, result.text) == (False, "No passage in the documents fits this query.")
    assert memory.asked[0][3] == 5


async def test_query_that_nobody_can_look_for_is_a_result(tools: pb_grpc.ToolServiceStub) -> None:
    """What memory refuses is told to the model, which can ask better; the task goes on."""
    result = await _execute(tools, "search_memory", query=" ")
    assert (result.is_error, result.text) == (
        True,
        "The search was refused: query: must not be empty",
    )


async def test_memory_that_is_away_is_an_error_of_the_call(tmp_path: Path) -> None:
    """Without the memory service a search is DEPENDENCY_UNAVAILABLE, so that it can be retried."""
    async with AsyncExitStack() as stack:
        gone = await stack.enter_async_context(
            Channels({"memory": "127.0.0.1:1"}, caller="service:tool")
        )
        service = await build(_resources(stack, gone, tmp_path), ToolSettings())
        own = await stack.enter_async_context(serving(service.registrations))
        stub = pb_grpc.ToolServiceStub(own.get("tool"))
        with (
            identity.use(identity.Identity("acme", "service:executor")),
            pytest.raises(errors.DependencyUnavailable) as caught,
        ):
            await stub.ExecuteTool(_request("search_memory", query="limits"), timeout=30)
    assert caught.value.metadata == {"dependency": "memory"}


@pytest.mark.parametrize(
    ("tool", "arguments", "violations"),
    [
        ("calculator", {}, ["call.arguments.expression: is required"]),
        ("calculator", {"expression": 5}, ["call.arguments.expression: must be text, not 5"]),
        (
            "calculator",
            {"expression": "1", "expr": "2"},
            ["call.arguments.expr: is not known; did you mean expression?"],
        ),
        (
            "search_memory",
            {"query": "", "limit": 21},
            [
                "call.arguments.limit: must be at most 20, not 21",
                "call.arguments.query: must have at least 1 characters, not 0",
            ],
        ),
    ],
)
async def test_arguments_that_do_not_fit_are_refused(
    tools: pb_grpc.ToolServiceStub, tool: str, arguments: dict[str, Any], violations: list[str]
) -> None:
    """INVALID_TOOL_ARGUMENTS names each path and what was expected there."""
    with pytest.raises(errors.InvalidToolArguments) as caught:
        await tools.ExecuteTool(_request(tool, **arguments), timeout=30)
    assert [f"{each.field}: {each.description}" for each in caught.value.violations] == violations


async def test_unknown_tool_is_not_found(tools: pb_grpc.ToolServiceStub) -> None:
    """ExecuteTool and GetTool name the nearest tool there is."""
    with pytest.raises(errors.ToolNotFound) as caught:
        await tools.ExecuteTool(_request("calculater"), timeout=30)
    assert caught.value.message == "There is no tool 'calculater'. Did you mean calculator?"
    with pytest.raises(errors.ToolNotFound):
        await tools.GetTool(pb.GetToolRequest(name="tenants/acme/tools/none"), timeout=30)


async def test_malformed_requests_name_their_field(tools: pb_grpc.ToolServiceStub) -> None:
    """What is missing or too long is told with its path; another tenant is forbidden."""
    long_key = _request("calculator", expression="1")
    long_key.idempotency_key = "k" * 201
    for request, field in (
        (pb.ExecuteToolRequest(parent="acme"), "parent"),
        (pb.ExecuteToolRequest(parent=_ACME), "call"),
        (pb.ExecuteToolRequest(parent=_ACME, call=ToolCall()), "call.tool"),
        (long_key, "idempotency_key"),
    ):
        with pytest.raises(errors.InvalidField) as caught:
            await tools.ExecuteTool(request, timeout=30)
        assert [each.field for each in caught.value.violations] == [field]
    with pytest.raises(errors.Forbidden):
        await tools.ListTools(pb.ListToolsRequest(parent="tenants/other"), timeout=30)


async def test_batch_answers_each_call_by_its_index(tools: pb_grpc.ToolServiceStub) -> None:
    """Calls of several tenants travel together, each with its own answer or error."""
    batch = pb.BatchExecuteToolsRequest()
    for index, (tenant, expression) in enumerate([("acme", "1+1"), ("other", "1+2"), ("acme", "")]):
        request = _request("calculator", expression=expression)
        request.parent = f"tenants/{tenant}"
        item = batch.items.add(request=request)
        item.context.index, item.context.tenant, item.context.timeout.seconds = index, tenant, 5
    with identity.use(identity.Identity(BATCH_TENANT, "service:executor")):
        results = [
            result
            async for response in tools.BatchExecuteTools(batch, timeout=30)
            for result in response.results
        ]
    by_index = {each.index: each for each in results}
    assert sorted(by_index) == [0, 1, 2]
    assert [by_index[n].response.result.text for n in (0, 1)] == ["2", "3"]
    assert errors.from_status(by_index[2].error).reason == "INVALID_TOOL_ARGUMENTS"


async def test_batches_follow_each_other_on_a_stream(tools: pb_grpc.ToolServiceStub) -> None:
    """Each call is answered by its index, whichever batch it came in."""

    async def batches() -> AsyncIterator[pb.BatchExecuteToolsStreamRequest]:
        for index in range(3):
            request = pb.BatchExecuteToolsStreamRequest()
            item = request.items.add(request=_request("calculator", expression=f"1+{index}"))
            item.context.index, item.context.tenant = index, "acme"
            item.context.timeout.seconds = 5
            yield request

    with identity.use(identity.Identity("acme", "service:executor")):
        results = [
            (result.index, result.response.result.text)
            async for response in tools.BatchExecuteToolsStream(batches(), timeout=30)
            for result in response.results
        ]
    assert sorted(results) == [(0, "1"), (1, "2"), (2, "3")]


async def test_later_parts_of_the_contract_say_so(tools: pb_grpc.ToolServiceStub) -> None:
    """What this version does not serve is UNIMPLEMENTED with a sentence."""
    with pytest.raises(errors.NotImplementedYet) as caught:
        await tools.RegisterTool(pb.RegisterToolRequest(parent=_ACME), timeout=30)
    assert caught.value.message == (
        "ToolService.RegisterTool is part of the contract, but this version does not serve it."
    )
