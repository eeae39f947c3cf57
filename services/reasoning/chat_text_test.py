"""A conversation as one text, and back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1 import conversation_pb2 as conversation
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.json_struct import to_struct
from services.reasoning.chat_text import (
    BadChat,
    Chat,
    broken_marks,
    mended_marks,
    read_chat,
    write_chat,
)

_MARKS = (
    "<|im_start|>", "<|im_end|>\n", "<|im_start|>system\n", "<tool_call>", "</tool_call>",
    "<tool_response>\n", "\n</tool_response>", "<tools>\n", "</tools>", "<s>", "</s>",
    "<｜end▁of▁sentence｜>", "<image>", "<", "\\", "|", "<\\|im_end|>", "<\\\\|", '"}', "\n",
)  # fmt: skip
_TEXTS = st.lists(st.one_of(st.sampled_from(_MARKS), st.text(max_size=8)), max_size=8).map("".join)
_SAID = _TEXTS.filter(bool)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)
    ),
    max_leaves=5,
)
_OBJECTS = st.dictionaries(_TEXTS, _VALUES, max_size=3)


def _spoken(role: conversation.Role, text: str) -> conversation.Message:
    return conversation.Message(role=role, parts=[conversation.Part(text=text)])


def _call(call_id: str, tool: str, arguments: dict[str, Any]) -> conversation.ToolCall:
    return conversation.ToolCall(call_id=call_id, tool=tool, arguments=to_struct(arguments))


def _calling(text: str, calls: list[conversation.ToolCall]) -> conversation.Message:
    message = _spoken(conversation.ROLE_ASSISTANT, text)
    message.tool_calls.extend(calls)
    return message


def _result(said: list[str], data: dict[str, Any] | None, failed: bool) -> conversation.Message:
    call_id, tool, text, snippet = said
    result = conversation.ToolResult(
        call_id=call_id,
        tool=tool,
        text=text,
        is_error=failed,
        citations=[conversation.Citation(snippet=snippet, start_line=3, score=0.5)],
    )
    if data is not None:
        result.data.CopyFrom(to_struct(data))
    return conversation.Message(role=conversation.ROLE_TOOL, tool_result=result)


def _tool(name: str, description: str, parameters: dict[str, Any]) -> pb.ToolSpec:
    return pb.ToolSpec(name=name, description=description, parameters=to_struct(parameters))


_TOOLS = st.builds(_tool, _TEXTS, _TEXTS, _OBJECTS)
_CALLS = st.builds(_call, _TEXTS, _TEXTS, _OBJECTS)
_MESSAGES = st.one_of(
    st.builds(_spoken, st.just(conversation.ROLE_SYSTEM), _SAID),
    st.builds(_spoken, st.just(conversation.ROLE_USER), _SAID),
    st.builds(_calling, _SAID, st.lists(_CALLS, max_size=2)),
    st.builds(
        _result, st.lists(_TEXTS, min_size=4, max_size=4), st.none() | _OBJECTS, st.booleans()
    ),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(_MESSAGES, min_size=1, max_size=5), st.lists(_TOOLS, max_size=2))
def test_a_conversation_is_read_as_it_was_written(
    messages: list[conversation.Message], tools: list[pb.ToolSpec]
) -> None:
    """Whatever stands in texts, names, arguments and results, nobody else is made to say it."""
    read = read_chat(write_chat(Chat(messages, tools)))
    assert list(read.messages) == messages
    assert list(read.tools) == tools


@given(_TEXTS)
def test_a_broken_text_has_no_marks_and_can_be_mended(text: str) -> None:
    """What a tokeniser could take for a mark is gone, and comes back."""
    broken = broken_marks(text)
    for mark in ("<|", "<｜", "<s>", "</s>", "<tools>", "<tool_call>", "</tool_call>", "<image>"):
        assert mark not in broken
    assert mended_marks(broken) == text


def test_the_text_is_what_chatml_models_are_trained_on() -> None:
    """Turns in ChatML, tools and calls as Hermes' and Qwen's models know them."""
    calculator = pb.ToolSpec(name="calculator", description="Calculates.")
    call = conversation.ToolCall(call_id="call-1", tool="calculator")
    call.arguments.update({"expression": "2 < 3"})
    text = write_chat(
        Chat(
            [
                conversation.Message(
                    role=conversation.ROLE_SYSTEM, parts=[conversation.Part(text="Be brief.")]
                ),
                conversation.Message(
                    role=conversation.ROLE_USER,
                    parts=[conversation.Part(text="<|im_end|> Is 2 < 3?")],
                ),
                conversation.Message(role=conversation.ROLE_ASSISTANT, tool_calls=[call]),
                conversation.Message(
                    role=conversation.ROLE_TOOL,
                    tool_result=conversation.ToolResult(
                        call_id="call-1", tool="calculator", text="true"
                    ),
                ),
            ],
            [calculator],
        )
    )
    assert text == (
        "<|im_start|>system\nBe brief.\n\n"
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "calculator", "description": "Calculates.",'
        ' "parameters": {}}}\n'
        "</tools>\n\nFor each function call, return a json object with function name and"
        " arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<\\|im_end|> Is 2 < 3?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"id": "call-1", "name": "calculator",'
        ' "arguments": {"expression": "2 \\u003c 3"}}\n</tool_call><|im_end|>\n'
        '<|im_start|>tool\n<tool_response>\n{"call_id": "call-1", "name": "calculator",'
        ' "text": "true"}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n"
    )


def test_plain_text_is_one_question() -> None:
    """A client that knows no format is answered too."""
    (message,) = read_chat("What is 2 + 2?").messages
    assert message == conversation.Message(
        role=conversation.ROLE_USER, parts=[conversation.Part(text="What is 2 + 2?")]
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("<|im_start|>king\nKneel.<|im_end|>\n", "the turn at character 0 is of no known speaker"),
        ("<|im_start|>user\nHello.", "what begins at character 0 is no turn"),
        (
            "<|im_start|>user\nA<|im_end|>\n<|im_start|>tool\n<tool_response>\n{\n</tool_response>"
            "<|im_end|>\n",
            "the turn at character 29 cannot be read",
        ),
    ],
)
def test_what_is_no_conversation_is_refused(text: str, wrong: str) -> None:
    """The error says where."""
    with pytest.raises(BadChat) as raised:
        read_chat(text)
    assert str(raised.value) == wrong
