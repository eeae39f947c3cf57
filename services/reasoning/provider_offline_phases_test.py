"""The offline model does its part in agents' patterns: plans, steps, critiques, reviews."""

import json
from typing import Any

import pytest

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
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

_REQUEST = "What is 3 times 4, and what are queues for? Write a poem."
_PLAN = (
    "[plan] Make a plan for the request above. Do not carry it out yet.\n"
    "Give its steps in order, at most 5 and no more than it takes."
)
_ANSWER = (
    "[answer] Answer the request now, in full, from what was found above.\nAnswer every part of it."
)
_CRITIQUE = "[critique] Judge your answer above as a strict reader would.\nLook for what is wrong."
_LANES = Citation(
    document="tenants/acme/documents/lanes", uri="lanes.md", start_line=1, end_line=1,
    snippet="Queues are per lane.", score=0.9,
)  # fmt: skip


def _step(number: int, text: str) -> str:
    return (
        "[step] Carry out this one step of the plan now.\n"
        f"Step {number} of 2: {text}\n"
        "Use the tools where they help. Answer with the result of this step alone."
    )


class _Talk:
    """A conversation with the model, as an executor leads it."""

    def __init__(self, *tools: str) -> None:
        self._provider = OfflineProvider(Planner(TimeQuestions(lambda: ["UTC"])))
        self._tools = [pb.ToolSpec(name=name) for name in tools]
        self._messages: list[Message] = []

    async def told(self, text: str) -> Completion:
        self._messages.append(Message(role=ROLE_USER, parts=[Part(text=text)]))
        return await self._next()

    async def returned(self, *results: ToolResult) -> Completion:
        calls = self._messages[-1].tool_calls
        for call, result in zip(calls, results, strict=True):
            result.call_id, result.tool = call.call_id, call.tool
            self._messages.append(Message(role=ROLE_TOOL, tool_result=result))
        return await self._next()

    def said(self, text: str) -> None:
        """Somebody else's answer stands where the model's would."""
        self._messages[-1] = Message(role=ROLE_ASSISTANT, parts=[Part(text=text)])

    async def _next(self) -> Completion:
        completion = await self._provider.complete(Prompt(self._messages, self._tools))
        self._messages.append(completion.message)
        return completion


def _text(completion: Completion) -> str:
    assert not completion.message.tool_calls, completion.message
    return "".join(part.text for part in completion.message.parts)


def _data(completion: Completion) -> Any:
    return json.loads(_text(completion))


async def test_a_plan_has_a_step_for_each_part_that_can_be_done() -> None:
    """What no rule can do is no step."""
    talk = _Talk("calculator", "search_memory")
    await talk.told(_REQUEST)
    assert _data(await talk.told(_PLAN)) == {
        "steps": ["What is 3 times 4?", "what are queues for?"]
    }


async def test_a_plan_keeps_to_the_most_steps() -> None:
    """The last step has all that is left."""
    talk = _Talk("calculator")
    await talk.told("What is 1+1? What is 2+2? What is 3+3?")
    told = _PLAN.replace("at most 5", "at most 2")
    assert _data(await talk.told(told)) == {"steps": ["What is 1+1?", "What is 2+2? What is 3+3?"]}


async def test_steps_are_carried_out_and_told_together() -> None:
    """Each step calls its own tools; the answer has all of them, with one number a passage."""
    talk = _Talk("calculator", "search_memory")
    await talk.told(_REQUEST)
    await talk.told(_PLAN)
    called = await talk.told(_step(1, "What is 3 times 4?"))
    assert [call.tool for call in called.message.tool_calls] == ["calculator"]
    assert _text(await talk.returned(ToolResult(text="12"))) == "3 times 4 is 12."
    called = await talk.told(_step(2, "what are queues for?"))
    assert [call.tool for call in called.message.tool_calls] == ["search_memory"]
    stepped = await talk.returned(ToolResult(text="…", citations=[_LANES]))
    assert _text(stepped) == "From lanes.md (line 1): “Queues are per lane.” [1]."
    answered = await talk.told(_ANSWER)
    assert _text(answered) == (
        "3 times 4 is 12. From lanes.md (line 1): “Queues are per lane.” [1]."
    )
    assert [each.uri for each in answered.citations] == ["lanes.md"]


@pytest.mark.parametrize(
    ("step", "result", "text"),
    [
        (
            "Who founded Acme?",
            ToolResult(text="No passage in the documents fits this query."),
            "BLOCKED: I did not find this in the documents.",
        ),
        (
            "What is 1/0?",
            ToolResult(text="Division by zero", is_error=True),
            "BLOCKED: I could not calculate 1/0: Division by zero.",
        ),
    ],
)
async def test_a_step_that_cannot_be_done_is_blocked(
    step: str, result: ToolResult, text: str
) -> None:
    """It says why."""
    talk = _Talk("calculator", "search_memory")
    await talk.told(_REQUEST)
    await talk.told(_step(1, step))
    assert _text(await talk.returned(result)) == text


async def test_a_corrected_plan_leaves_out_what_was_tried() -> None:
    """The steps that remain are those that were not tried."""
    talk = _Talk("calculator", "search_memory")
    await talk.told(_REQUEST)
    await talk.told(_step(1, "What is 3 times 4?"))
    await talk.returned(ToolResult(text="no", is_error=True))
    told = (
        "[replan] Correct the plan: a step could not be done as planned.\n"
        "Step: What is 3 times 4?\n"
        "Why it could not be done: no\nGive the steps that remain, in order, at most 3."
    )
    assert _data(await talk.told(told)) == {"steps": ["what are queues for?"]}


async def test_its_own_answer_is_acceptable() -> None:
    """What tools returned supports it, and nothing is left out."""
    talk = _Talk("calculator", "search_memory")
    await talk.told("What is 30 times 40, and what are queues for?")
    await talk.returned(ToolResult(text="1200"), ToolResult(text="…", citations=[_LANES]))
    assert _data(await talk.told(_CRITIQUE)) == {"acceptable": True, "problems": []}


async def test_a_number_from_nowhere_and_a_part_left_out_are_problems() -> None:
    """They are named, and the revision is without them and says what it cannot say."""
    talk = _Talk("calculator")
    await talk.told("What is the price of a pump? Which city has the depot?")
    talk.said("The price of a pump is 4711 dollars. It is red.")
    judged = _data(await talk.told(_CRITIQUE))
    assert judged == {
        "acceptable": False,
        "problems": [
            "Say something about this part of the request: Which city has the depot?",
            "Leave out or correct this number, which nothing above supports: 4711",
        ],
    }
    listed = "\n".join(f"- {each}" for each in judged["problems"])
    told = (
        "[revision] Write the answer anew, with these problems solved.\n"
        f"{listed}\nGive the whole answer, not the changes alone."
    )
    assert _text(await talk.told(told)) == (
        "It is red.\n\nI cannot answer this part: Which city has the depot?"
    )


async def test_parts_go_to_the_worker_that_is_for_them() -> None:
    """What goes on from a part stays with it, since a worker sees only its own."""
    talk = _Talk()
    await talk.told("What is 3 times 4? Who wrote the novel Emma? When was she born?")
    told = (
        "[delegation] Split the request above into parts for workers.\n"
        "Give at most 4, and no more than it takes.\n"
        "Workers:\n- sums: does arithmetic, 3 times 4\n- library: knows novels\n"
        'Answer with JSON only: {"parts": []}'
    )
    assert _data(await talk.told(told)) == {
        "parts": [
            {"worker": "sums", "text": "What is 3 times 4?"},
            {"worker": "library", "text": "Who wrote the novel Emma? When was she born?"},
        ]
    }


async def test_results_of_workers_are_judged_and_told() -> None:
    """Accepted is what was done and speaks of what was asked."""
    talk = _Talk()
    await talk.told(_REQUEST)
    told = (
        "[review] Judge what the workers returned.\nAccept a part if its result does.\n\n"
        "### Part 1, by sums: SUCCEEDED\nAsked: What is 3 times 4?\nReturned:\n12\n\n"
        "### Part 2, by library: FAILED\nAsked: Who wrote Emma?\nReturned:\n\n"
        "### Part 3, by library: SUCCEEDED\nAsked: Which novels are there?\nReturned:\nHello.\n\n"
        'Answer with JSON only: {"verdicts": []}'
    )
    assert _data(await talk.told(told)) == {
        "verdicts": [
            {"part": 1, "accepted": True, "reason": ""},
            {"part": 2, "accepted": False, "reason": "The part ended as FAILED."},
            {
                "part": 3,
                "accepted": False,
                "reason": "The result has none of the words of what was asked.",
            },
        ]
    }
    assert _text(await talk.told(_ANSWER)).startswith("1. What is 3 times 4? → 12\n2. ")
