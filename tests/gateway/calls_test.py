"""Calls through the gateway: gRPC, JSON and gRPC-web, and who they come from."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc, task_pb2
from agentmesh.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from meshkit.errors import from_rpc_error
from meshtest.eventually import eventually
from tests.gateway.running_gateway import Front, Trace
from tier import parts

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "tenants/default/tasks/t1"


@pytest_asyncio.fixture(loop_scope="session")
async def channel(running: Front) -> AsyncIterator[grpc.aio.Channel]:
    """A plain channel to the gateway, as a client has it."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(running.gateway.address, options=options) as each:
        yield each


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    """The coordinator, through the gateway."""
    return coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)


async def _get(stub: Any, *metadata: tuple[str, str], timeout: float | None = 60) -> Any:
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    return (await stub.GetTask(request, timeout=timeout, metadata=metadata)).task


async def test_grpc_passes(stub: Any) -> None:
    """A gRPC call is answered, for the tenant `default` where it names none."""
    task = await _get(stub)
    assert (task.name, task.tenant) == (_TASK, "default")


async def test_a_stream_passes_message_by_message(stub: Any) -> None:
    """A server stream arrives whole and in order."""
    request = coordinator_service_pb2.RunTaskRequest(parent="tenants/default", request_id="r")
    kinds = [each.WhichOneof("update") async for each in stub.RunTask(request, timeout=60)]
    assert kinds == ["task", "event", "delta"]


async def test_a_typed_error_passes(stub: Any) -> None:
    """The details of an error arrive: the client raises the class that the server raised."""
    request = coordinator_service_pb2.GetTaskRequest(name="tenants/default/tasks/missing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetTask(request, timeout=60)
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason, error.message) == (
        grpc.StatusCode.NOT_FOUND,
        "TASK_NOT_FOUND",
        "There is no task 'tenants/default/tasks/missing'.",
    )


async def test_the_client_names_its_tenant(stub: Any) -> None:
    """A tenant in the metadata is taken at its word."""
    assert (await _get(stub, ("x-agentmesh-tenant", "acme"))).tenant == "acme"


async def test_nobody_can_claim_to_be_a_service(stub: Any) -> None:
    """The caller is what the gateway says, and no internal header comes through from outside."""
    task = await _get(
        stub,
        ("x-agentmesh-caller", "service:executor"),
        ("x-agentmesh-role", "root"),
        ("x-agentmesh-internal", "yes"),
        ("x-envoy-retry-on", "5xx"),
        ("agentmesh-kept-tenant", "smuggled"),
    )
    assert task.labels["caller"] == "user:anonymous"
    assert task.labels["role"] == "admin"
    assert task.tenant == "default"
    headers = task.labels["headers"].split()
    assert [each for each in headers if "agentmesh" in each] == [
        "x-agentmesh-caller",
        "x-agentmesh-role",
    ]
    assert "x-envoy-retry-on" not in headers


async def test_the_deadline_reaches_the_service(stub: Any) -> None:
    """A service sees the time that the client gave."""
    task = await _get(stub, timeout=70)
    # gRPC rounds a timeout up by as much as a hundredth when it writes it down.
    assert 10 < float(task.labels["remaining_seconds"]) <= 70 * 1.01


async def test_the_deadline_ends_a_call(running: Front) -> None:
    """A client that cannot watch the clock itself is told when its deadline has passed."""
    trace = Trace()
    answer = await running.gateway.http(
        "GET", "/v1/tenants/default/tasks/hangs", headers=[("grpc-timeout", "200m"), trace.header]
    )
    assert answer.status == 504
    (line,) = await eventually(lambda: running.gateway.access_of(trace), 60)
    assert line["duration_ms"] > 150


async def test_every_call_has_one_trace_id(running: Front, stub: Any) -> None:
    """Without a trace of the client's, gateway and service still log the same id."""
    trace_id = (await _get(stub)).labels["trace_id"]
    assert len(trace_id) == 32
    (line,) = await eventually(lambda: running.gateway.access_of(Trace(trace_id)), 60)
    assert line["rpc"] == "/agentmesh.coordinator.v1.CoordinatorService/GetTask"


async def test_a_client_s_trace_goes_on(stub: Any) -> None:
    """The trace id that a client brings is the one that the service sees."""
    mine = "0af7651916cd43dd8448eb211c80319c"
    task = await _get(stub, ("traceparent", f"00-{mine}-b7ad6b7169203331-01"))
    assert task.labels["trace_id"] == mine


async def test_json_becomes_grpc(running: Front) -> None:
    """A task is submitted with curl alone."""
    answer = await running.gateway.post(
        "/v1/tenants/acme/tasks",
        {"task": {"input": {"text": "What is 2 + 2?"}}, "requestId": "r1"},
        **{"x-agentmesh-tenant": "acme"},
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    task = answer.json["task"]
    assert task["name"] == "tenants/acme/tasks/r1"
    assert task["input"] == {"text": "What is 2 + 2?"}
    assert task["labels"]["caller"] == "user:anonymous"


async def test_a_stream_becomes_lines_of_json(running: Front) -> None:
    """Each message of a stream is a line."""
    answer = await running.gateway.post("/v1/tenants/default/tasks:run", {"requestId": "r1"})
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [list(each) for each in lines] == [["task"], ["event"], ["delta"]]
    assert lines[2] == {"delta": {"step": 1, "text": "spoken"}}


async def test_an_error_becomes_json_with_its_details(running: Front) -> None:
    """The field that is wrong is named in JSON, too."""
    answer = await running.gateway.post("/v1/tenants/default/tasks", {"task": {"agent": "nobody"}})
    assert answer.status == 400
    assert answer.json["code"] == 3
    by_type = {each["@type"].rpartition(".")[2]: each for each in answer.json["details"]}
    assert by_type["ErrorInfo"]["reason"] == "INVALID_FIELD"
    assert by_type["BadRequest"]["fieldViolations"] == [
        {"field": "task.agent", "description": "must name an agent"}
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/tenants/default/tasks", b"{", 400, b""),
        ("/v1/tenants/default/tasks?colour=red", b"{}", 400, b"colour"),
        ("/v2/tenants/default/tasks", b"{}", 404, b"The mesh has nothing at this path."),
        (
            "/v1/tenants/default/tasks",
            b'{"requestId": "' + b"x" * (9 << 20) + b'"}',
            400,
            b"the limit is 8,388,608",
        ),
    ],
    ids=["half an object", "unknown parameter", "unknown path", "too large"],
)
async def test_bad_json_is_refused(
    running: Front, path: str, body: bytes, status: int, text: bytes
) -> None:
    """What cannot be understood or is too large is refused before a service looks at it."""
    answer = await running.gateway.http("POST", path, body, {"content-type": "application/json"})
    assert answer.status == status
    assert text in answer.body
    assert running.coordinator.calls == {}


async def test_a_message_over_the_limit_is_refused(stub: Any) -> None:
    """More than 8 MiB in a message is an error with a name, over gRPC as well."""
    request = coordinator_service_pb2.SubmitTaskRequest(parent="tenants/default")
    request.task.input.text = "x" * (8 << 20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitTask(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(caught.value).reason == "TOO_LARGE"


async def test_grpc_web_becomes_grpc(running: Front) -> None:
    """A browser's call is answered in frames, the status in the last."""
    message = coordinator_service_pb2.GetTaskRequest(name=_TASK).SerializeToString()
    answer = await running.gateway.http(
        "POST",
        "/agentmesh.coordinator.v1.CoordinatorService/GetTask",
        b"\0" + len(message).to_bytes(4, "big") + message,
        {
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "origin": "http://localhost:5173",
        },
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    size = int.from_bytes(answer.body[1:5], "big")
    task = coordinator_service_pb2.GetTaskResponse.FromString(answer.body[5 : 5 + size]).task
    assert task.name == _TASK
    rest = answer.body[5 + size :]
    assert rest[0] == 0x80
    assert b"grpc-status:0" in rest


async def test_a_browser_asks_first(running: Front) -> None:
    """A page of this machine may call with the headers that gRPC-web needs."""
    answer = await running.gateway.http(
        "OPTIONS",
        "/agentmesh.coordinator.v1.CoordinatorService/GetTask",
        headers={
            "origin": "http://127.0.0.1:3000",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-grpc-web",
        },
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:3000"
    assert "x-grpc-web" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"host": "evil.example"}],
    ids=["a page from elsewhere", "a name from elsewhere"],
)
async def test_other_sites_cannot_reach_the_mesh(running: Front, headers: dict[str, str]) -> None:
    """A page that the user's browser got elsewhere has no effect here, by no trick of names."""
    answer = await running.gateway.http(
        "POST", "/v1/tenants/default/tasks", b"{}", {"content-type": "text/plain", **headers}
    )
    assert answer.status in (403, 404)
    assert running.coordinator.calls == {}


async def test_it_does_not_tell_what_it_is(running: Front) -> None:
    """No header names the server or its version."""
    answer = await running.gateway.http("GET", f"/v1/{_TASK}")
    assert answer.status == 200
    assert [key for key in answer.headers if "envoy" in key or key == "server"] == []


async def test_the_access_log_says_what_and_not_what_about(running: Front, stub: Any) -> None:
    """A line has the call and its outcome, and nothing of its content."""
    request = coordinator_service_pb2.SubmitTaskRequest(
        parent="tenants/default", task=task_pb2.Task(), request_id="secret-7"
    )
    request.task.input.text = "secret-8"
    trace = Trace()
    await stub.SubmitTask(request, timeout=60, metadata=[trace.header])
    listing = "/v1/tenants/default/tasks?session=secret-9"
    await running.gateway.http("GET", listing, headers=[trace.header])

    async def lines() -> list[Any]:
        found = running.gateway.access_of(trace)
        assert len(found) == 2
        return found

    submitted, listed = await eventually(lines, 60)
    assert submitted["rpc"] == "/agentmesh.coordinator.v1.CoordinatorService/SubmitTask"
    assert submitted["grpc_status"] == "OK"
    assert submitted["upstream"] == "coordinator"
    assert (listed["method"], listed["path"]) == ("GET", "/v1/tenants/default/tasks")
    assert listed["rpc"] == "/agentmesh.coordinator.v1.CoordinatorService/ListTasks"
    assert listed["http_status"] == 501
    assert "secret" not in running.gateway.access_log.read_text()


async def test_each_service_has_its_route(channel: grpc.aio.Channel, running: Front) -> None:
    """A call goes to the cluster of its part."""
    memory: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)
    trace = Trace()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await memory.Search(memory_service_pb2.SearchRequest(), timeout=60, metadata=[trace.header])
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    (line,) = await eventually(lambda: running.gateway.access_of(trace), 60)
    assert line["upstream"] == "memory"


async def test_health_is_asked_by_service(channel: grpc.aio.Channel) -> None:
    """The health of every service is known by its name, and an unknown one is not found."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", *parts.SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.Such"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_every_service(channel: grpc.aio.Channel) -> None:
    """A tool like grpcurl needs nothing but the gateway's address."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
    call = stub.ServerReflectionInfo(timeout=60)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    await call.done_writing()
    listed = {each.name for each in answer.list_services_response.service}
    assert listed >= {*parts.SERVICES, "grpc.health.v1.Health"}


async def test_a_service_that_is_not_there_is_unimplemented(channel: grpc.aio.Channel) -> None:
    """An unknown gRPC service gets a status, not a broken stream."""
    call = cast(Any, channel).unary_unary("/no.such.Service/Call")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "The mesh has nothing at this path."


async def test_many_calls_at_once(stub: Any) -> None:
    """Five hundred calls in flight are all answered."""
    tasks = await asyncio.gather(*(_get(stub) for _ in range(500)))
    assert {task.name for task in tasks} == {_TASK}
