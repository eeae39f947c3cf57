"""What a model is given of conversations of any kind and length."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, Part, ToolCall, ToolResult
from agentmesh.reasoning.v1.reasoning_service_pb2 import GenerateRequest
from meshkit.errors import TooLarge
from services.executor.context_window import ContextWindow, tokens_of
from services.executor.shortening import shortened, words_of

_QUESTION = "how long is the warranty of the pump"
_TOPIC = words_of(_QUESTION)

_FILLER = "Nobody knows why skies look as they do on days such as these are."


def _says(text: str, role: conversation_pb2.Role = conversation_pb2.ROLE_ASSISTANT) -> Message:
    return Message(role=role, parts=[Part(text=text)])


def _calls(group: int, results: list[str]) -> list[Message]:
    """A model's calls, and what the tools returned."""
    ids = [f"g{group}c{number}" for number in range(len(results))]
    asked = Message(
        role=conversation_pb2.ROLE_ASSISTANT,
        tool_calls=[ToolCall(call_id=each, tool="look") for each in ids],
    )
    returned = [
        Message(
            role=conversation_pb2.ROLE_TOOL,
            tool_result=ToolResult(call_id=each, tool="look", text=text),
        )
        for each, text in zip(ids, results, strict=True)
    ]
    return [asked, *returned]


def _fill(messages: list[tuple[Message, bool]], limit: int, full: int = 5) -> tuple[
    ContextWindow, GenerateRequest
]:  # fmt: skip
    request = GenerateRequest()
    window = ContextWindow(
        request.messages, limit_tokens=limit, full_messages=full, topic=_QUESTION
    )
    for message, is_pinned in messages:
        window.add(message, is_pinned=is_pinned)
    return window, request


_Blocks = list[tuple[str, list[str]]]
_WORDS = st.sampled_from(["pump.", "warranty", "five years!", "oil", "\n", "ä€"])


@st.composite
def _text(draw: st.DrawFn) -> str:
    return " ".join(draw(st.lists(_WORDS, max_size=9))) * draw(st.integers(0, 60))


@st.composite
def _block(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Something said, something pinned, or calls with their results."""
    kind = draw(st.sampled_from(["says", "pin", "calls"]))
    if kind == "calls":
        return kind, draw(st.lists(_text(), min_size=1, max_size=7))
    return kind, [draw(_text() if kind == "says" else st.text(max_size=40))]


_blocks = st.lists(_block(), max_size=40)


def _messages(blocks: _Blocks) -> list[tuple[Message, bool]]:
    told = [(_says("Be brief.", conversation_pb2.ROLE_SYSTEM), True)]
    for group, (kind, texts) in enumerate(blocks):
        if kind == "calls":
            told += [(each, False) for each in _calls(group, texts)]
        else:
            told.append((_says(texts[0]), kind == "pin"))
    return told


@given(_blocks, st.integers(20, 4_000), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_window_keeps_its_promises(blocks: _Blocks, limit: int, full: int) -> None:
    """Pinned messages stay whole and in order, calls keep their results, the count is right,
    and the limit holds or is told."""
    messages = _messages(blocks)
    window, request = _fill(messages, limit, full)
    given_pinned = [message for message, is_pinned in messages if is_pinned]
    kept = list(request.messages)
    remaining = iter(kept)
    assert all(each in remaining for each in given_pinned)
    asked: list[str] = []
    for message in kept:
        if message.role == conversation_pb2.ROLE_TOOL:
            assert message.tool_result.call_id == asked.pop(0)
            continue
        assert asked == []
        asked = [call.call_id for call in message.tool_calls]
    assert asked == []
    assert window.tokens == sum(tokens_of(message) for message in kept)
    assert window.left_out == len(messages) - len(kept)
    if window.tokens > limit:
        with pytest.raises(TooLarge, match=rf"The limit is {limit:,}\."):
            window.check()
    else:
        window.check()


@given(_blocks, st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_with_room_the_newest_stay_whole_and_all_stay(blocks: _Blocks, full: int) -> None:
    """Older ones are no longer than they were; nothing is left out."""
    messages = _messages(blocks)
    window, request = _fill(messages, 10**9, full)
    assert window.left_out == 0
    loose = [
        (given_message, kept)
        for (given_message, is_pinned), kept in zip(messages, request.messages, strict=True)
        if not is_pinned
    ]
    for given_message, kept in loose[-full:]:
        assert kept == given_message
    for given_message, kept in loose[:-full]:
        assert tokens_of(kept) <= tokens_of(given_message)
        assert tokens_of(kept) <= 800


@given(_blocks, st.integers(20, 4_000), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_the_same_conversation_gives_the_same_window(
    blocks: _Blocks, limit: int, asked_at: int
) -> None:
    """Whether it was asked for on the way makes no difference."""
    messages = _messages(blocks)
    _, whole = _fill(messages, limit)
    window, request = _fill(messages[:asked_at], limit)
    request.SerializeToString()
    for message, is_pinned in messages[asked_at:]:
        window.add(message, is_pinned=is_pinned)
    assert request == whole


def test_what_tools_returned_goes_first() -> None:
    """A long result is shortened before a long word of the model is."""
    said = "The pump is blue. " * 100
    messages = [(_says(said), False)] + [
        (each, False) for each in _calls(0, ["The sky is grey. " * 100])
    ]
    _, request = _fill(messages, 600)
    assert request.messages[0].parts[0].text == said
    assert tokens_of(request.messages[2]) < 250


def test_old_messages_go_many_at_a_time() -> None:
    """So that requests begin alike for a while: models remember what they have read."""
    messages = [(_says("word " * 20), False)] * 400
    window, request = _fill(messages[:1], 1_000)
    changes = 0
    for message, is_pinned in messages[1:]:
        before = window.left_out
        window.add(message, is_pinned=is_pinned)
        changes += window.left_out != before
    assert len(request.messages) < 40
    assert 0 < changes < 45


def test_of_an_old_message_stays_what_the_request_is_about() -> None:
    """Whole sentences, in their order, with the gaps shown."""
    text = (
        f"{_FILLER} The pump is blue. {_FILLER} {_FILLER} It has a warranty. It is of"
        f" five years.\n{_FILLER}"
    )
    assert shortened(text, _TOPIC, 70) == "… The pump is blue. … It has a warranty. …"
    assert shortened("short", _TOPIC, 120) == "short"


@given(st.text(max_size=2_000), st.integers(20, 500))
@settings(max_examples=100, deadline=None)
def test_a_shortened_text_is_no_longer_than_asked(text: str, most: int) -> None:
    """Whatever characters it has, and whether it has sentences or not."""
    short = shortened(text, _TOPIC, most)
    assert len(short.encode()) <= most or short == text


def test_a_step_costs_what_is_new_in_it() -> None:
    """Sixteen times the conversation takes about sixteen times as long, limit or not."""
    for limit in (20_000, 10**9):
        _time(32, limit)
        short, long = _time(40, limit), _time(640, limit)
        assert long < 16 * short * 4


def _time(groups: int, limit: int) -> float:
    """Seconds of CPU for so many calls with results of 4 KB; the best of three."""
    text = "The pump is blue, and its warranty is short. " * 90
    messages = [(each, False) for group in range(groups) for each in _calls(group, [text])]
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        _fill(messages, limit)
        best = min(best, time.process_time() - begun)
    return best
