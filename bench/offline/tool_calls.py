"""Tool calls from plain words: the right tools with the right arguments, or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Message,
    Part,
    ToolCall,
    ToolResult,
)
from agentmesh.reasoning.v1.reasoning_service_pb2 import ToolSpec
from bench.offline.conversation import Conversations
from bench.offline.documents import plain
from bench.offline.rows import rows
from bench.offline.score import Score

_CALLS: Final = (
    "simple_python", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
)  # fmt: skip
_NO_CALLS: Final = ("irrelevance", "live_irrelevance")
_ROLES: Final = {"user": ROLE_USER, "system": ROLE_SYSTEM, "assistant": ROLE_ASSISTANT}
# Names of types, as the sets write them and as JSON Schema does.
_TYPES: Final = {
    "dict": "object", "float": "number", "list": "array", "tuple": "array", "int": "integer",
    "str": "string", "bool": "boolean", "any": "string",
}  # fmt: skip

_Calls = Sequence[tuple[str, Mapping[str, Any]]]


async def score(data: Path, conversations: Conversations) -> list[Score]:
    """A score for each part of both sets."""
    scores: list[Score] = []
    for name in (*_CALLS, *_NO_CALLS):
        refused = " (refused)" if name in _NO_CALLS else ""
        counted = Score(f"bfcl {name}{refused}")
        for row in rows(data / "bfcl_v4" / f"{name}.jsonl"):
            messages = [_said(_ROLES[each["role"]], each["content"]) for each in row["question"][0]]
            tools = [_tool(each) for each in row["function"]]
            calls = _calls(await _next(conversations, messages, tools))
            story = f"{messages[-1].parts[0].text}\n    {calls} (wanted {row['ground_truth']})"
            if name in _NO_CALLS:
                counted.count(answered=True, right=not calls, story=story)
            else:
                right = _same(calls, row["ground_truth"])
                counted.count(answered=bool(calls), right=right, story=story)
        scores.append(counted)
    return [*scores, await _dialogues(data, conversations)]


async def _dialogues(data: Path, conversations: Conversations) -> Score:
    """Each call of a dialogue, given all that was said before it."""
    counted = Score("api_bank, next call")
    known = {row["name"]: _api(row) for row in rows(data / "api_bank" / "tools.jsonl")}
    for row in rows(data / "api_bank" / "dialogues.jsonl"):
        names = sorted({turn["api_name"] for turn in row["turns"] if turn["role"] == "API"})
        tools = [known[name] for name in names if name in known]
        said: list[Message] = []
        for number, turn in enumerate(row["turns"]):
            if turn["role"] != "API":
                role = ROLE_USER if turn["role"] == "User" else ROLE_ASSISTANT
                said.append(_said(role, turn["text"]))
                continue
            name, wanted = turn["api_name"], turn["param_dict"]
            if name in known and any(each.role == ROLE_USER for each in said):
                calls = _calls(await _next(conversations, said, tools))
                accepted = {key: [value] for key, value in wanted.items()}
                right = _same(calls, [{name: accepted}])
                story = f"{row['id']}: {_last_words(said)}\n    {calls} (wanted {name}: {wanted})"
                counted.count(answered=bool(calls), right=right, story=story)
            said += _called(f"call-{number}", turn)
    return counted


def _called(call_id: str, turn: Mapping[str, Any]) -> list[Message]:
    call = ToolCall(call_id=call_id, tool=turn["api_name"])
    call.arguments.update(turn["param_dict"])
    answered = str(turn["result"].get("output"))
    result = ToolResult(call_id=call_id, tool=turn["api_name"], text=answered)
    return [
        Message(role=ROLE_ASSISTANT, tool_calls=[call]),
        Message(role=ROLE_TOOL, tool_result=result),
    ]


async def _next(
    conversations: Conversations, messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> Message:
    return (await conversations.next(messages, tools)).message


def _said(role: Any, text: str) -> Message:
    return Message(role=role, parts=[Part(text=text)])


def _last_words(said: Sequence[Message]) -> str:
    return next(each.parts[0].text for each in reversed(said) if each.role == ROLE_USER)


def _calls(message: Message) -> _Calls:
    return [(call.tool, MessageToDict(call.arguments)) for call in message.tool_calls]


def _tool(function: Mapping[str, Any]) -> ToolSpec:
    tool = ToolSpec(name=function["name"], description=function["description"])
    tool.parameters.update(_schema(function["parameters"]))
    return tool


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with the types' names of JSON Schema."""
    written: dict[str, Any] = dict(schema)
    if "type" in schema:
        written["type"] = _TYPES.get(schema["type"], schema["type"])
    if "properties" in schema:
        written["properties"] = {name: _schema(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        written["items"] = _schema(schema["items"])
    return written


def _api(row: Mapping[str, Any]) -> ToolSpec:
    tool = ToolSpec(name=row["name"], description=row["description"])
    given: Mapping[str, Any] = row["input_parameters"]
    properties: dict[str, Any] = {
        name: {
            "type": "array"
            if each["type"].startswith("list")
            else _TYPES.get(each["type"], "string"),
            "description": each["description"],
        }
        for name, each in given.items()
    }
    tool.parameters.update(
        {"type": "object", "properties": properties, "required": sorted(properties)}
    )
    return tool


def _same(calls: _Calls, wanted: Sequence[Mapping[str, Mapping[str, Any]]]) -> bool:
    """Whether the calls are those wanted, in any order."""
    if len(calls) != len(wanted):
        return False
    left = list(calls)
    for each in wanted:
        ((name, accepted),) = each.items()
        found = next((call for call in left if call[0] == name and _fits(call[1], accepted)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _fits(arguments: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
    if not set(arguments) <= set(accepted):
        return False
    return all(
        any(_equal(arguments[name], value) for value in values)
        if name in arguments
        else "" in values
        for name, values in accepted.items()
    )


def _equal(given: Any, value: Any) -> bool:
    if isinstance(value, dict) and isinstance(given, dict):
        accepted = cast(Mapping[str, Any], value)
        # Inside of an object each value is a list of those accepted, too.
        lists: dict[str, Any] = {
            key: each if isinstance(each, list) else [each] for key, each in accepted.items()
        }
        return _fits(cast(Mapping[str, Any], given), lists)
    if isinstance(value, list) and isinstance(given, list):
        left, right = cast(list[Any], given), cast(list[Any], value)
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(value, bool) or isinstance(given, bool):
        return given is value
    if isinstance(value, int | float) and isinstance(given, int | float):
        return abs(given - value) < 1e-9
    return isinstance(value, str) and isinstance(given, str) and plain(given) == plain(value)
