"""Test-only: a real Triton with a scripted model, for the suite of all providers.

Before it stands what the provider connects to: it records requests, gives the model its
script, and does what only gateways and connections do.
"""

import asyncio
import atexit
import json
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2_grpc

from meshtest.child_server import ChildServer, binary
from models.triton_server import TritonOptions, command
from services.reasoning.generation import Provider, StopReason
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.provider_failures import Failure
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.provider_triton import TritonProvider
from services.reasoning.upstream import (
    SCRIPT_HEADER,
    USUAL_LIMITS,
    Ability,
    Limits,
    Reply,
    Script,
    Upstream,
)

MODEL: Final = "scripted"
_MODEL_SOURCES: Final = Path(__file__).parent / "scripted_triton"
_FINISH: Final = {StopReason.MAX_TOKENS: "length"}
# Before each string of a tensor.
_LENGTH_BYTES: Final = 4
_MORE: Final = {"text": "and so on ", "num_output_tokens": 3}
# What the Python backend can say, and how Triton says it itself.
_ERRORS: Final = {
    Failure.OVERLOADED: ("UNAVAILABLE", "Exceeds maximum queue size"),
    Failure.SERVER_ERROR: ("INTERNAL", "Error generating stream"),
    Failure.NO_MODEL: ("NOT_FOUND", "Request for unknown model: 'scripted' is not found"),
    Failure.REJECTED: ("INVALID_ARG", "unexpected inference input 'prompt'"),
}
# Of gateways before a Triton, which itself knows neither keys nor rates.
_REFUSALS: Final = {
    Failure.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Failure.UNAUTHORISED: grpc.StatusCode.UNAUTHENTICATED,
}
_UNBOUNDED: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Scripts come in one header.
    ("grpc.max_metadata_size", 1024 * 1024),
    ("grpc.absolute_max_metadata_size", 1024 * 1024),
]
# Any: the package has no types.
_services: Final[Any] = service_pb2_grpc


@dataclass(slots=True)
class TritonRequest:
    """A request that came in."""

    content: bytes
    streamed: bool
    client_left: asyncio.Event = field(default_factory=asyncio.Event)


class TritonUpstream:
    """Triton and its provider, as the suite drives them."""

    def __init__(self, stub: Any, reports: str) -> None:
        """`reports`: the socket that is told of clients that leave."""
        self.name: Final = "triton"
        # Images come as bytes alone; the rest vLLM's backend has no words for.
        self.abilities: Final = frozenset(
            (Ability.TOOLS, Ability.MALFORMED_CALLS, Ability.SCHEMAS, Ability.STOP_TEXTS)
        )
        self.key: Final = ""
        self._stub: Final = stub
        self._reports: Final = reports
        self.port = 0
        self.requests: Final[list[TritonRequest]] = []

    @asynccontextmanager
    async def provider(
        self, script: Script, limits: Limits = USUAL_LIMITS, *, key: str = ""
    ) -> AsyncGenerator[Provider]:
        """The provider, each of whose requests carries `script`."""
        async with _provider(self.port, script, limits) as provider:
            yield provider

    @asynccontextmanager
    async def provider_of_nobody(self) -> AsyncGenerator[Provider]:
        """The provider at a port of nobody's."""
        async with _provider(1, Script(), USUAL_LIMITS) as provider:
            yield provider

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncGenerator[Any]:
        """Hands the request on to Triton, with its script as a parameter."""
        headers = dict(context.invocation_metadata())
        script = Script.from_header(headers[SCRIPT_HEADER])
        request = await anext(request_iterator)
        tensors = _tensors(request)
        streamed = tensors["stream"] == b"\x01"
        content = b"\n".join(value[_LENGTH_BYTES:] for value in tensors.values())
        self.requests.append(TritonRequest(content, streamed))
        if script.failure is not None and script.failure in _REFUSALS:
            await context.abort(_REFUSALS[script.failure], script.message)
        played = _played(
            script, json.loads(tensors["sampling_parameters"][_LENGTH_BYTES:]), streamed=streamed
        )
        played |= {"request": len(self.requests) - 1, "report_to": self._reports}
        request.parameters["script"].string_param = json.dumps(played)

        async def one() -> AsyncIterator[Any]:
            yield request

        sent = 0
        strict = [("triton_grpc_error", headers["triton_grpc_error"])]
        answers = self._stub.ModelStreamInfer(one(), metadata=strict)
        try:
            async for answer in answers:
                if sent == script.cut_after:
                    break
                yield answer
                sent += 1
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        finally:
            answers.cancel()
        if script.cut_after is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def left(self, report: bytes) -> None:
        """Takes the model's word that a client went away."""
        self.requests[int(json.loads(report)["request"])].client_left.set()


@asynccontextmanager
async def triton_upstream() -> AsyncGenerator[Upstream]:
    """For the suite. Skips where there is no Triton."""
    port = _triton().port
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        reports = f"{folder}/reports"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_UNBOUNDED) as channel:
            upstream = TritonUpstream(_services.GRPCInferenceServiceStub(channel), reports)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.bind(reports)
                told.setblocking(False)
                loop = asyncio.get_running_loop()
                loop.add_reader(told, lambda: upstream.left(told.recv(4096)))
                server = grpc.aio.server(options=_UNBOUNDED)
                _services.add_GRPCInferenceServiceServicer_to_server(
                    _Front(upstream.ModelStreamInfer), server
                )
                upstream.port = server.add_insecure_port("127.0.0.1:0")
                await server.start()
                try:
                    yield upstream
                finally:
                    await server.stop(None)
                    loop.remove_reader(told)


class _Front:
    """Serves the one method of the protocol that is asked for."""

    def __init__(self, stream_infer: Any) -> None:
        self.ModelStreamInfer: Final = stream_infer

    def __getattr__(self, name: str) -> None:
        return None


@asynccontextmanager
async def _provider(port: int, script: Script, limits: Limits) -> AsyncGenerator[Provider]:
    spec = ModelSpec(
        name="scripted",
        provider="triton",
        kind=Kind.GENERATOR,
        context_tokens=1_000_000,
        max_output_tokens=limits.max_output_tokens,
        description="A model whose answers are scripted.",
    )
    provider = TritonProvider(
        spec,
        model=MODEL,
        address=f"127.0.0.1:{port}",
        timeouts=ProviderTimeouts(
            limits.connect_seconds, limits.silence_seconds, limits.whole_seconds
        ),
        headers={SCRIPT_HEADER: script.to_header()},
    )
    try:
        yield provider
    finally:
        await provider.close()


@cache
def _triton() -> ChildServer:
    """One for all tests of a process: it takes seconds to start, and remembers nothing."""
    folder = tempfile.TemporaryDirectory(prefix="triton-")
    repository = Path(folder.name) / "models"
    program = repository / MODEL / "1" / "model.py"
    program.parent.mkdir(parents=True)
    program.symlink_to(_MODEL_SOURCES.joinpath("model.py").resolve())
    configuration = repository / MODEL / "config.pbtxt"
    configuration.symlink_to(_MODEL_SOURCES.joinpath("config.pbtxt").resolve())
    launcher = binary("TRITON_SERVER")
    server = ChildServer(
        lambda port: command(TritonOptions(launcher, port), repository),
        log_path=Path(folder.name) / "triton.log",
        answers=_answers,
    )
    # Called in the opposite order: the server goes before its folder.
    atexit.register(folder.cleanup)
    atexit.register(server.stop)
    server.start()
    return server


def _answers(port: int) -> bool:
    """Triton opens its port when its models are loaded."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _tensors(request: Any) -> Mapping[str, bytes]:
    """The inputs of a request by their names, strings with their length before them."""
    names = [tensor.name for tensor in request.inputs]
    return dict(zip(names, request.raw_input_contents, strict=True))


def _played(script: Script, sampling: Mapping[str, Any], *, streamed: bool) -> dict[str, Any]:
    """What the model is to do."""
    pieces = _pieces(script.reply, sampling)
    delay_seconds = script.delay_seconds
    if script.body is not None:
        pieces = [{"text": script.body}]
    elif not streamed:
        delay_seconds += script.pause_seconds * (len(pieces) - 1)
        pieces = _joined(pieces)
    if script.end_after is not None:
        # In good order, and yet before a reason was given.
        pieces = [{**each, "finish_reason": "None"} for each in pieces][: script.end_after]
    if script.endless:
        pieces = [{**each, "finish_reason": "None"} for each in pieces]
    return {
        "error": _ERRORS[script.failure] if script.failure else None,
        "delay_seconds": delay_seconds,
        "pause_seconds": script.pause_seconds,
        "hang_after": script.hang_after,
        "pieces": pieces,
        "more": {**pieces[0], **_MORE} if script.endless else None,
    }


def _pieces(reply: Reply, sampling: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = (
        f'\n<tool_call>\n{{"id": {json.dumps(call.call_id)}, "name": {json.dumps(call.tool)},'
        f' "arguments": {call.arguments}}}\n</tool_call>'
        for call in reply.calls
    )
    texts = [*reply.text, *calls] or [""]
    if reply.stop is StopReason.STOP_TEXT and sampling.get("include_stop_str_in_output"):
        texts[-1] += sampling["stop"][0]
    pieces: list[dict[str, Any]] = [{"text": text, "finish_reason": "None"} for text in texts]
    pieces[-1]["finish_reason"] = _FINISH.get(reply.stop, "stop")
    if reply.tells_usage:
        for number, piece in enumerate(pieces):
            # All of it with the last, none with the others.
            last = number == len(pieces) - 1
            piece["num_input_tokens"] = reply.input_tokens
            piece["num_output_tokens"] = reply.output_tokens if last else 0
    return pieces


def _joined(pieces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**pieces[-1], "text": "".join(piece["text"] for piece in pieces)}]
