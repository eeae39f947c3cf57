"""What is recorded of a model's message, so that its calls can be told apart."""

import pytest

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, ToolCall, ToolResult
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from services.executor import conversation


def _message(ids: list[str]) -> Message:
    return Message(
        role=conversation_pb2.ROLE_ASSISTANT,
        tool_calls=[ToolCall(call_id=each, tool=f"t{n}") for n, each in enumerate(ids)],
    )


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-1", "a-2"]),
        (["", ""], ["call-0", "call-1"]),
        # None that the model gave itself is taken.
        (["a", "a", "a-1"], ["a", "a-1-1", "a-1"]),
        (["call-1", ""], ["call-1", "call-1-1"]),
    ],
)
def test_each_call_of_a_message_has_an_id_of_its_own(given: list[str], recorded: list[str]) -> None:
    """The same each time, and those that are alone are kept."""
    message = _message(given)
    conversation.tell_calls_apart(message)
    assert [call.call_id for call in message.tool_calls] == recorded
    assert [call.tool for call in message.tool_calls] == [
        call.tool for call in _message(given).tool_calls
    ]


def test_a_call_whose_twin_was_answered_is_still_to_be_made() -> None:
    """An executor died between the two: the next one makes the other."""
    called, answered = TaskEvent(), TaskEvent()
    called.model_called.message.CopyFrom(_message(["a", "a"]))
    conversation.tell_calls_apart(called.model_called.message)
    called.model_called.step = 1
    answered.tool_called.result.CopyFrom(ToolResult(call_id="a"))
    step, pending = conversation.pending_calls([called, answered])
    assert (step, [(call.call_id, call.tool) for call in pending]) == (1, [("a-1", "t1")])
