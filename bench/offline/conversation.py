"""Asks the offline model, and plays the tools that it calls."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import ROLE_TOOL, ROLE_USER, Message, Part, ToolResult
from agentmesh.reasoning.v1.reasoning_service_pb2 import ToolSpec
from bench.offline.passage_search import PassageSearch
from services.reasoning.generation import Completion, Prompt
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.provider_offline import OfflineProvider
from services.tool.calculator import CalculatorTool
from services.tool.tool import Invocation, ToolFault

_MOST_ROUNDS: Final = 6
_TENANT: Final = "bench"


@dataclass(slots=True)
class Talk:
    """What was said, and what the calculator found on the way."""

    completion: Completion
    values: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(part.text for part in self.completion.message.parts)


class Conversations:
    """Talks with the model, and keeps how long each of its calls took."""

    def __init__(self) -> None:
        self._provider: Final = OfflineProvider(Planner(TimeQuestions(list)))
        self._calculator: Final = CalculatorTool()
        self.seconds: Final[list[float]] = []

    async def ask(self, text: str, search: PassageSearch | None = None) -> Talk:
        """The answer to `text`; there is a calculator, and a search where it is given."""
        names = ["calculator", *(["search_memory"] if search is not None else [])]
        tools = [ToolSpec(name=name) for name in names]
        messages = [Message(role=ROLE_USER, parts=[Part(text=text)])]
        values: list[str] = []
        for _ in range(_MOST_ROUNDS):
            completion = await self.next(messages, tools)
            if not completion.message.tool_calls:
                return Talk(completion, values)
            messages.append(completion.message)
            for call in completion.message.tool_calls:
                arguments = MessageToDict(call.arguments)
                if call.tool == "calculator":
                    result = await self._calculated(call.call_id, arguments["expression"])
                    values.append("" if result.is_error else result.text)
                else:
                    assert search is not None
                    result = search.result(
                        call.call_id, arguments["query"], int(arguments["limit"])
                    )
                messages.append(Message(role=ROLE_TOOL, tool_result=result))
        raise RuntimeError(f"Still calling tools after {_MOST_ROUNDS} rounds: {text!r}")

    async def next(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Completion:
        """The model's next message."""
        began = time.perf_counter()
        completion = await self._provider.complete(Prompt(messages, tools))
        self.seconds.append(time.perf_counter() - began)
        return completion

    async def _calculated(self, call_id: str, expression: str) -> ToolResult:
        invocation = Invocation(_TENANT, {"expression": expression})
        try:
            answer = await self._calculator.execute(invocation)
        except ToolFault as fault:
            return ToolResult(call_id=call_id, tool="calculator", text=str(fault), is_error=True)
        result = ToolResult(call_id=call_id, tool="calculator", text=answer.text)
        result.data.update(dict(answer.data or {}))
        return result
