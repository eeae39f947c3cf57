"""Recognises that a sentence asks for a tool by name, and reads its arguments out of it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.struct_pb2 import Struct

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.words import stem, stems, words

Argument = str | int | float | bool

# Parts of tools' names that say nothing of what they are about.
_GENERIC_TEXT: Final = """
    get set find search lookup look up list fetch read write create make run call show tool
    current by for of in the to do
"""
_GENERIC: Final = frozenset(_GENERIC_TEXT.split())
_JSON: Final = re.compile(r"\{.*\}", re.DOTALL)
_QUOTED: Final = re.compile(r"[\"“']([^\"”']+)[\"”']")
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")
_IDENTIFIER: Final = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]+\b|#\d+")
_AFTER_PREPOSITION: Final = re.compile(
    r"\b(?:in|for|of|at|to|from|about|with|named|called)\s+(?:the\s+)?(?P<rest>[^?.!,;]+)",
    re.IGNORECASE,
)
_TRUE: Final = frozenset(["yes", "true", "on"])


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool that a sentence asks for."""

    tool: str
    arguments: Mapping[str, Argument]
    # Required arguments that the sentence does not give.
    missing: tuple[str, ...]


def find_tool_request(clause: str, tools: Sequence[pb.ToolSpec]) -> ToolRequest | None:
    """The first of `tools` that `clause` asks for, with the arguments found; None for none."""
    spoken = clause.lower()
    said = set(stems(clause))
    for tool in tools:
        by_name = re.search(rf"(?<!\w){re.escape(tool.name.lower())}(?!\w)", spoken)
        if by_name is None and not _about(tool.name, said):
            continue
        rest = clause if by_name is None else clause[: by_name.start()] + clause[by_name.end() :]
        return _fill(tool, rest)
    return None


def find_tool_requests(text: str, tools: Sequence[pb.ToolSpec]) -> list[ToolRequest]:
    """Stub."""
    found = find_tool_request(text, tools)
    return [found] if found else []


def _about(name: str, said: set[str]) -> bool:
    topic = {stem(word) for word in words(name) if word not in _GENERIC}
    return bool(topic) and topic <= said


def _fill(tool: pb.ToolSpec, clause: str) -> ToolRequest:
    properties = _struct(tool.parameters, "properties")
    required = _strings(tool.parameters, "required")
    found: dict[str, Argument] = dict(_from_json(clause, properties))
    texts = [match[1] for match in _QUOTED.finditer(clause)]
    for name in properties:
        if name in found:
            continue
        schema = properties[name].struct_value
        value = _explicit(name, schema, clause)
        if value is None:
            value = _by_type(schema, clause, texts, wanted=name in required)
        if value is not None:
            found[name] = value
    missing = tuple(name for name in required if name not in found)
    return ToolRequest(tool.name, found, missing)


def _from_json(clause: str, properties: Mapping[str, Any]) -> Mapping[str, Argument]:
    match = _JSON.search(clause)
    if match is None:
        return {}
    try:
        value: Any = json.loads(match[0])
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    given = cast(dict[str, Any], value)
    return {
        name: each
        for name, each in given.items()
        if name in properties and isinstance(each, str | int | float | bool)
    }


def _explicit(name: str, schema: Struct, clause: str) -> Argument | None:
    """The value in `name=value` or `name: value`."""
    spoken = re.escape(name).replace("_", "[_ ]")
    match = re.search(
        rf"\b{spoken}\s*[=:]\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s,;]+))", clause, re.IGNORECASE
    )
    if match is None:
        return None
    text = next(group for group in match.groups() if group is not None)
    return _converted(_type(schema), text)


def _by_type(schema: Struct, clause: str, texts: list[str], *, wanted: bool) -> Argument | None:
    choices = _strings(schema, "enum")
    if choices:
        spoken = clause.lower()
        return next((each for each in choices if each.lower() in spoken), None)
    kind = _type(schema)
    if kind in ("number", "integer"):
        match = _NUMBER.search(clause)
        return _converted(kind, match[0]) if match is not None else None
    if kind != "string" or not wanted:
        return None
    if texts:
        return texts.pop(0)
    identifier = _IDENTIFIER.search(clause)
    if identifier is not None:
        return identifier[0]
    match = _AFTER_PREPOSITION.search(clause)
    return match["rest"].strip() if match is not None else None


def _converted(kind: str, text: str) -> Argument | None:
    if kind == "boolean":
        return text.lower() in _TRUE
    if kind not in ("number", "integer"):
        return text
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError:
        return None


def _type(schema: Struct) -> str:
    return schema.fields["type"].string_value if "type" in schema.fields else "string"


def _struct(schema: Struct, key: str) -> Mapping[str, Any]:
    return schema.fields[key].struct_value.fields if key in schema.fields else {}


def _strings(schema: Struct, key: str) -> list[str]:
    if key not in schema.fields:
        return []
    return [each.string_value for each in schema.fields[key].list_value.values]
