"""The offline model makes tasks wait where it is asked to, and answers from what came."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_TOOL,
    ROLE_USER,
    Citation,
    Message,
    Part,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Completion, Prompt
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.provider_offline import OfflineProvider

_TOOLS = ("calculator", "current_time", "ask_person", "wait", "delegate")


class _Task:
    """A conversation with the model, as an executor leads it."""

    def __init__(self, text: str, tools: Sequence[str] = _TOOLS) -> None:
        self._provider = OfflineProvider(Planner(TimeQuestions(lambda: ["UTC"])))
        self._tools = [pb.ToolSpec(name=name) for name in tools]
        self._messages = [Message(role=ROLE_USER, parts=[Part(text=text)])]

    async def calls(self, *results: str | ToolResult) -> list[dict[str, Any]]:
        """What the model calls next, once its calls have these results, in their order."""
        said = await self.goes_on(*results)
        assert said.message.tool_calls, said.message
        return [
            {"tool": call.tool, **MessageToDict(call.arguments)} for call in said.message.tool_calls
        ]

    async def answers(self, *results: str | ToolResult) -> Completion:
        """What the model says in the end."""
        said = await self.goes_on(*results)
        assert not said.message.tool_calls, said.message
        return said

    async def goes_on(self, *results: str | ToolResult) -> Completion:
        calls = self._messages[-1].tool_calls
        assert len(calls) == len(results)
        for call, result in zip(calls, results, strict=True):
            given = ToolResult(text=result) if isinstance(result, str) else result
            given.call_id, given.tool = call.call_id, call.tool
            self._messages.append(Message(role=ROLE_TOOL, tool_result=given))
        completion = await self._provider.complete(Prompt(self._messages, self._tools))
        self._messages.append(completion.message)
        return completion


def _text(completion: Completion) -> str:
    return "".join(part.text for part in completion.message.parts)


async def test_a_person_is_asked_and_quoted() -> None:
    """The question goes to a person, and the answer says what they said."""
    task = _Task("Ask me which colour the logo should have.")
    assert await task.calls() == [
        {"tool": "ask_person", "question": "Which colour the logo should have?"}
    ]
    assert _text(await task.answers("blue")) == (
        "“Which colour the logo should have?” was answered: blue."
    )


async def test_a_question_that_nobody_answered_is_told() -> None:
    """The end of the wait is no answer."""
    task = _Task("Ask me for the order number.")
    await task.calls()
    assert _text(
        await task.answers(ToolResult(is_error=True, text="Nobody answered in time."))
    ) == ("I asked: “What is the order number?” Nobody answered in time.")


async def test_what_follows_a_wait_is_done_after_it() -> None:
    """The clock is read when the time is over, not before."""
    task = _Task("Wait 5 seconds, then tell me the time.")
    assert await task.calls() == [{"tool": "wait", "seconds": 5.0}]
    assert await task.calls("The wait is over.") == [{"tool": "current_time"}]
    assert _text(await task.answers("12:00")) == "I waited 5 seconds. It is 12:00."


async def test_what_comes_before_a_wait_is_called_with_it() -> None:
    """One round of calls ends with the first that waits."""
    task = _Task("What is 2 + 2, and wait until 2026-01-31T12:00:00Z, then ask me for a name.")
    assert await task.calls() == [
        {"tool": "calculator", "expression": "2 + 2"},
        {"tool": "wait", "until": "2026-01-31T12:00:00Z"},
    ]
    assert await task.calls("4", "over") == [{"tool": "ask_person", "question": "What is a name?"}]
    assert _text(await task.answers("Ada")) == (
        "2 + 2 is 4. I waited until 2026-01-31T12:00:00Z. “What is a name?” was answered: Ada."
    )


async def test_equal_waits_are_waited_one_after_another() -> None:
    """What is asked twice is done once, but time passes each time."""
    task = _Task("Wait 1 second, then wait 1 second.")
    assert await task.calls() == [{"tool": "wait", "seconds": 1.0}]
    assert await task.calls("over") == [{"tool": "wait", "seconds": 1.0}]
    assert _text(await task.answers("over")) == "I waited 1 second. I waited 1 second."


async def test_parts_are_handed_on_and_their_results_listed() -> None:
    """Each part is a task; a part that failed says why."""
    task = _Task("Delegate: What is 2 + 2?; Read the moon; What is 3 * 3?")
    assert await task.calls() == [
        {
            "tool": "delegate",
            "tasks": [
                {"text": "What is 2 + 2?"},
                {"text": "Read the moon"},
                {"text": "What is 3 * 3?"},
            ],
        }
    ]
    results = (
        "Task 1 of 3: SUCCEEDED\n2 + 2 is 4.\n\nTask 2 of 3: FAILED\nno moon\n\n"
        "Task 3 of 3: PARTIAL\n3 * 3 is 9."
    )
    assert _text(await task.answers(results)) == (
        "1. What is 2 + 2? → 2 + 2 is 4.\n2. Read the moon → FAILED: no moon.\n"
        "3. What is 3 * 3? → 3 * 3 is 9."
    )


async def test_passages_of_parts_are_cited_under_new_numbers() -> None:
    """Each part numbers its passages from one; the answer numbers them through."""
    task = _Task("Delegate: A; B")
    await task.calls()
    a, b, c = (Citation(uri=f"{name}.md") for name in "abc")
    answer = await task.answers(
        ToolResult(
            text="Task 1 of 2: SUCCEEDED\nOne [1].\n\nTask 2 of 2: SUCCEEDED\nTwo [1], three [2].",
            citations=[a, b, c],
        )
    )
    assert _text(answer) == "1. A → One [1].\n2. B → Two [2], three [3]."
    assert list(answer.citations) == [a, b, c]


async def test_numbers_that_fit_no_passage_are_left_out() -> None:
    """A reference that cannot be followed is worse than none."""
    task = _Task("Delegate: A; B")
    await task.calls()
    answer = await task.answers(
        ToolResult(
            text="Task 1 of 2: SUCCEEDED\nOne [1].\n\nTask 2 of 2: SUCCEEDED\nTwo [7].",
            citations=[Citation(uri="a.md")],
        )
    )
    assert _text(answer) == "1. A → One.\n2. B → Two."
    assert list(answer.citations) == []


async def test_words_like_those_of_a_result_stay_words() -> None:
    """A part's text that looks like the beginning of another result is not taken for it."""
    task = _Task("Delegate: A; B")
    await task.calls()
    answer = await task.answers(
        "Task 1 of 2: SUCCEEDED\nI saw\n\nTask 1 of 2: FAILED\nin a log.\n\n"
        "Task 2 of 2: SUCCEEDED\nAll is well."
    )
    assert _text(answer).startswith("1. A → I saw\n\nTask 1 of 2: FAILED\nin a log.\n2. B → All")


@pytest.mark.parametrize(
    "request_text",
    ["Wait 5 seconds.", "Ask me which colour to take.", "Delegate: What is 2 + 2?; What is 3 * 3?"],
)
async def test_tools_that_are_not_offered_are_not_called(request_text: str) -> None:
    """An agent without them answers at once, as before."""
    task = _Task(request_text, tools=("current_time",))
    await task.answers()


async def test_the_same_request_with_other_tools_is_planned_again() -> None:
    """What is remembered of a request holds for the tools that were offered with it."""
    provider = OfflineProvider(Planner(TimeQuestions(lambda: ["UTC"])))
    messages = [Message(role=ROLE_USER, parts=[Part(text="Wait 5 seconds.")])]
    without = await provider.complete(Prompt(messages, [pb.ToolSpec(name="current_time")]))
    assert not without.message.tool_calls
    offered = await provider.complete(Prompt(messages, [pb.ToolSpec(name="wait")]))
    assert [call.tool for call in offered.message.tool_calls] == ["wait"]
