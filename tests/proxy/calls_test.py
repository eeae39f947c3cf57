"""What the proxy makes of calls from one service to another."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit import urgency
from meshkit.constants import CALLER_KEY, TENANT_KEY
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, Forbidden
from meshtest.eventually import eventually
from tests.proxy.running_proxy import Proxy, caller, proxy
from tests.proxy.stand_in import DIES, HANGS, UNAVAILABLE

_EMBED = "/agentmesh.reasoning.v1.ReasoningService/Embed"
_REFUSED = "The policy of the mesh does not let this service make this call."


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    """A proxy before one instance."""
    async with proxy(tmp_path_factory.mktemp("one"), "a") as made:
        yield made


async def _counted(running: Proxy, name: str) -> int:
    """One of the proxy's own counters."""
    return (await running.statistics("cluster.reasoning."))[name]


async def test_a_call_arrives_as_it_was_made(running: Proxy) -> None:
    """With its caller and what is left of its time."""
    async with caller(running.target, "executor") as reasoning:
        model = await reasoning.list(timeout=600)
    assert model.provider == "service:executor"
    # gRPC rounds a timeout up by as much as a hundredth when it writes it down.
    assert 500_000 < model.context_tokens <= 606_000


@pytest.mark.parametrize("name", ["tool", "governor", "coordinator", "reasoning", "nobody"])
async def test_who_has_no_edge_to_a_service_may_not_call_it(running: Proxy, name: str) -> None:
    """It is told so, and the service hears nothing."""
    before = await _counted(running, "upstream_rq_total")
    async with caller(running.target, name) as reasoning:
        with pytest.raises(Forbidden) as caught:
            await reasoning.embed()
    assert (caught.value.message, caught.value.reason) == (_REFUSED, "FORBIDDEN")
    assert await _counted(running, "upstream_rq_total") == before


async def test_a_caller_may_call_only_what_the_policy_names(running: Proxy) -> None:
    """Memory embeds, and generates nothing; executors the other way round."""
    async with caller(running.target, "memory") as memory:
        assert await memory.embed() == "a"
        with pytest.raises(Forbidden):
            await memory.list()
    async with caller(running.target, "executor") as executor:
        await executor.list()
        with pytest.raises(Forbidden):
            await executor.embed()


@pytest.mark.parametrize("names", [[], ["user:anonymous"], ["service:tool", "service:memory"]])
async def test_a_caller_that_does_not_say_who_it_is_is_refused(
    running: Proxy, names: list[str]
) -> None:
    """Of two names that it says the first one counts, and the service hears that alone."""
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = pb_grpc.ReasoningServiceStub(channel)
        metadata = [(TENANT_KEY, "acme"), *((CALLER_KEY, each) for each in names)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(pb.EmbedRequest(texts=["a"]), timeout=60, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_second_name_of_a_caller_does_not_arrive(running: Proxy) -> None:
    """So that who may call in its own name cannot pass for somebody else."""
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = pb_grpc.ReasoningServiceStub(channel)
        names = ["service:executor", "service:memory"]
        metadata = [(TENANT_KEY, "acme"), *((CALLER_KEY, each) for each in names)]
        answer = await stub.ListModels(pb.ListModelsRequest(), timeout=60, metadata=metadata)
        assert answer.models[0].provider == "service:executor"


async def test_a_deadline_ends_a_call_everywhere(running: Proxy) -> None:
    """The service is not left working for nobody."""
    async with caller(running.target) as reasoning:
        with pytest.raises(DeadlineExceeded) as caught:
            await reasoning.embed(HANGS, timeout=0.3)
    assert caught.value.metadata["dependency"] == "reasoning"

    async def is_idle() -> bool:
        return await _counted(running, "upstream_rq_active") == 0

    await eventually(is_idle, 60)


async def test_what_a_service_answers_passes_as_it_is(running: Proxy) -> None:
    """UNAVAILABLE, too, is its caller's to repeat, not the proxy's."""
    before = await _counted(running, "upstream_rq_retry")
    async with caller(running.target) as reasoning:
        with pytest.raises(DependencyUnavailable) as caught:
            await reasoning.embed(UNAVAILABLE)
    assert caught.value.message == "Not today."
    assert await _counted(running, "upstream_rq_retry") == before


async def test_a_call_with_effects_is_not_repeated_when_its_instance_dies(
    tmp_path: Path,
) -> None:
    """Its caller is told, and knows by its key whether to do it again."""
    async with proxy(tmp_path, "a", "b") as pair, caller(pair.target, "executor") as reasoning:
        request = pb.GenerateStreamRequest()
        request.request.parameters.max_output_tokens = 10_000
        stream = reasoning.stub.GenerateStream(request, timeout=120)
        await anext(aiter(stream))
        for each in pair.instances.values():
            each.kill()
        with pytest.raises(DependencyUnavailable):
            async for _ in stream:
                pass
        assert await _counted(pair, "upstream_rq_total") == 1


async def test_what_somebody_waits_for_has_connections_of_its_own(running: Proxy) -> None:
    """And limits: a flood of other calls does not stand in its way."""
    async with caller(running.target) as reasoning:
        slow = [asyncio.create_task(reasoning.embed(HANGS)) for _ in range(4)]

        async def remaining(priority: str) -> int:
            prefix = f"cluster.reasoning.circuit_breakers.{priority}."
            return (await running.statistics(prefix))["remaining_rq"]

        async def is_busy() -> bool:
            return await remaining("default") == 4096 - 4

        await eventually(is_busy, 60)
        with urgency.use(True):
            urgent = asyncio.create_task(reasoning.embed(HANGS))

        async def is_urgent() -> bool:
            return await remaining("high") == 4096 - 1

        await eventually(is_urgent, 60)
        assert await remaining("default") == 4096 - 4
        for each in (urgent, *slow):
            each.cancel()
        await asyncio.gather(urgent, *slow, return_exceptions=True)


async def test_the_log_says_what_was_called_and_by_whom_and_nothing_that_was_said(
    running: Proxy,
) -> None:
    """A JSON object a call."""
    async with caller(running.target, tenant="logged") as reasoning:
        await reasoning.embed("a secret text")
    (line,) = await eventually(
        lambda: [each for each in running.access() if each["tenant"] == "logged"], 60
    )
    assert {key: line[key] for key in ("caller", "tenant", "rpc", "grpc_status", "upstream")} == {
        "caller": "service:memory",
        "tenant": "logged",
        "rpc": _EMBED,
        "grpc_status": "OK",
        "upstream": "reasoning",
    }
    assert line["attempts"] == 1
    assert "secret" not in running.access_log.read_text()


async def test_a_poisoned_call_does_not_take_the_mesh_with_it(tmp_path: Path) -> None:
    """A call that kills whoever it reaches is tried three times at most."""
    async with (
        proxy(tmp_path, "a", "b", "c", "d") as four,
        caller(four.target, patience_seconds=0.0) as hasty,
        caller(four.target) as reasoning,
    ):
        with pytest.raises(DependencyUnavailable):
            await hasty.embed(DIES)
        assert await _counted(four, "upstream_rq_retry") == 2
        assert await reasoning.embed() in four.instances
