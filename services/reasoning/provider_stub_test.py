"""The stub model makes the two moves of the reference task, and counts them as the others do."""

from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import ROLE_TOOL, ROLE_USER, Message, Part, ToolResult
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_stub import STUB, StubProvider

_QUESTION = Message(role=ROLE_USER, parts=[Part(text="Go.")])
_TOOLS = [pb.ToolSpec(name="stub")]


def _prompt(*messages: Message) -> Prompt:
    return Prompt(messages, _TOOLS)


async def test_it_calls_its_tool_and_then_answers() -> None:
    """One call with an argument of 200 bytes, and after its result a text of 200 bytes."""
    provider = StubProvider(latency_seconds=0)
    first = await provider.complete(_prompt(_QUESTION))
    assert first.stop_reason is StopReason.TOOL_CALLS
    (call,) = first.message.tool_calls
    assert call.tool == "stub"
    assert [(key, len(value)) for key, value in MessageToDict(call.arguments).items()] == [
        ("text", 200)
    ]
    result = Message(
        role=ROLE_TOOL, tool_result=ToolResult(call_id=call.call_id, tool="stub", text="Done.")
    )
    last = await provider.complete(_prompt(_QUESTION, first.message, result))
    assert last.stop_reason is StopReason.END
    assert [len(part.text) for part in last.message.parts] == [200]
    assert not last.message.tool_calls


async def test_its_tokens_are_a_quarter_of_the_bytes() -> None:
    """What is sent counts as encoded, what comes back by its text."""
    provider = StubProvider(latency_seconds=0)
    sent = _QUESTION.ByteSize() + _TOOLS[0].ByteSize()
    first = await provider.complete(_prompt(_QUESTION))
    assert first.input_tokens == -(-sent // 4)
    assert first.output_tokens == -(-first.message.ByteSize() // 4)
    result = Message(role=ROLE_TOOL, tool_result=ToolResult(text="Done."))
    last = await provider.complete(_prompt(_QUESTION, first.message, result))
    assert last.output_tokens == 50
    assert max(first.output_tokens, last.output_tokens) <= STUB.max_output_tokens


async def test_its_text_streams_in_one_piece() -> None:
    """The text, then the same completion as without a stream; a call comes as a whole."""
    provider = StubProvider(latency_seconds=0)
    asked = _prompt(_QUESTION)
    assert [each async for each in provider.stream(asked)] == [await provider.complete(asked)]
    answered = _prompt(_QUESTION, Message(role=ROLE_TOOL, tool_result=ToolResult(text="Done.")))
    text, completion = [each async for each in provider.stream(answered)]
    assert isinstance(completion, Completion)
    assert text == completion.message.parts[0].text
