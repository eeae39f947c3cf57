"""Recognises which tools a request asks for, once or several times."""

import re
from collections.abc import Sequence
from typing import Final

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.mentions import mentions_anything
from services.reasoning.offline.tool_arguments import ToolRequest, fill, fill_each
from services.reasoning.offline.words import STOP_WORDS, stem, stems, words

# Parts of tools' names that say nothing of what they are about.
_GENERIC_TEXT: Final = """
    get set find search lookup look up list fetch read write create make run call show tool
    current by for of in the to do calculate compute calc info information data details api
    function retrieve determine
"""
_GENERIC: Final = frozenset(_GENERIC_TEXT.split())
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What a request must have of a tool's topic, and of its topic with the description.
_ENOUGH_OF_NAME: Final = 0.5
_ENOUGH_WORDS: Final = 2
_DESCRIPTION_WEIGHT: Final = 0.3
# "…, then …", "… Also …": each may be a call of its own. Blanks are looked at from their
# first one only, for there may be millions.
_JOINT: Final = re.compile(
    r"(?<=[.?!;])\s+|(?:(?<!\s)\s+)?;\s*"
    r"|(?:,\s+|(?<!\s)\s+)(?:and\s+then|then|and\s+also|also)\s+|,\s+and\s+",
    re.IGNORECASE,
)
_MOST_CALLS: Final = 12


def find_tool_requests(text: str, tools: Sequence[pb.ToolSpec]) -> list[ToolRequest]:
    """The calls of `tools` that `text` asks for, with the arguments found; none for none.

    A tool that is named, or of whose topic all words are said, is asked for, even
    where arguments are missing. Of others it takes most of their topic, and all
    that they require.
    """
    named = _named(text, tools)
    if named is not None:
        tool, rest = named
        return fill_each(tool, rest) or [fill(tool, rest)]
    parts = [part for part in _JOINT.split(text) if part and part.strip()]
    if 1 < len(parts) <= _MOST_CALLS:
        several = [_asked(part, tools) for part in parts]
        whole = all(
            each or not mentions_anything(part) for each, part in zip(several, parts, strict=True)
        )
        if whole and sum(map(len, several)) > 1:
            return [request for each in several for request in each]
        if len({request.tool for each in several for request in each}) > 1:
            # More is asked for than was understood.
            return []
    return _asked(text, tools)


def find_tool_request(text: str, tools: Sequence[pb.ToolSpec]) -> ToolRequest | None:
    """The first call of `tools` that `text` asks for; None for none."""
    return next(iter(find_tool_requests(text, tools)), None)


def _named(text: str, tools: Sequence[pb.ToolSpec]) -> tuple[pb.ToolSpec, str] | None:
    """The tool whose name is said, and the text without it."""
    spoken = text.lower()
    for tool in tools:
        if tool.name.lower() not in spoken:
            continue
        match = re.search(rf"(?<!\w){re.escape(tool.name.lower())}(?!\w)", spoken)
        if match is not None and (
            "_" in tool.name or "." in tool.name or len(tools) == 1 or not tool.name.islower()
        ):
            return tool, text[: match.start()] + text[match.end() :]
    return None


def _asked(text: str, tools: Sequence[pb.ToolSpec]) -> list[ToolRequest]:
    said = set(stems(text))
    scored: list[tuple[float, pb.ToolSpec, bool]] = []
    for tool in tools:
        topic = _topic(tool.name)
        hit = topic & said
        whole = bool(topic) and topic <= said
        described = {
            stem(word) for word in words(tool.description[:1000]) if word not in STOP_WORDS
        }
        shared = len(described & said) - len(hit & described)
        enough = topic and len(hit) / len(topic) >= _ENOUGH_OF_NAME
        if whole or (enough and len(hit) + shared >= _ENOUGH_WORDS):
            scored.append((len(hit) + _DESCRIPTION_WEIGHT * shared, tool, whole))
    # Sorting is stable: among equals the first offered comes first.
    scored.sort(key=lambda each: -each[0])
    ready = [
        (score, requests)
        for score, tool, _ in scored
        if (requests := fill_each(tool, text)) and not any(each.missing for each in requests)
    ]
    if len(ready) > 1 and ready[0][0] == ready[1][0]:
        # Two tools that fit as well: which is meant is not known.
        return []
    if ready:
        return ready[0][1]
    for _, tool, whole in scored:
        if whole and (request := fill(tool, text)).missing:
            return [request]
    return []


def _topic(name: str) -> set[str]:
    spoken = _CAMEL.sub(" ", name.rpartition(".")[2] or name)
    topic = {stem(word) for word in words(spoken) if word not in _GENERIC}
    return topic or {stem(word) for word in words(_CAMEL.sub(" ", name)) if word not in _GENERIC}
