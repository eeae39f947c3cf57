"""Makes a message of a conversation shorter by leaving out what tells least.

Extractive, after Luhn, "The Automatic Creation of Literature Abstracts" (1958), with
the words of the request in place of frequent words: sentences that share words with
the request stay, in their order. No model is asked, and the same message always
becomes the same.
"""

import re
from typing import Final

from google.protobuf import struct_pb2

from agentmesh.common.v1.conversation_pb2 import Message, Part

# What stands between sentences, and between lines.
_BETWEEN: Final = re.compile(r"(?<=[.!?])\s+|\n\s*")
_WORD: Final = re.compile(r"\w{3,}")
_GAP: Final = " … "
# A text is looked through up to here; what comes after is as good as left out.
_MOST_CHARACTERS: Final = 100_000
_MOST_CITATIONS: Final = 5
_SNIPPET_BYTES: Final = 200
# The part of a cut text that is its beginning.
_HEAD_SHARE: Final = 0.7

Words = frozenset[str]


def words_of(text: str) -> Words:
    """What a text is about: its words of three letters or more."""
    return frozenset(_WORD.findall(text[:_MOST_CHARACTERS].lower()))


def shorten(message: Message, topic: Words, max_bytes: int) -> None:
    """Cuts the texts of `message` down to about `max_bytes`, in place.

    Which calls it makes, and which call it answers, stays; so do the sources of what a
    tool returned, in fewer words.
    """
    text = "".join(part.text for part in message.parts)
    if len(text.encode()) > max_bytes:
        del message.parts[:]
        message.parts.append(Part(text=shortened(text, topic, max_bytes)))
    for call in message.tool_calls:
        _shorten_struct(call.arguments, max_bytes)
    if message.HasField("tool_result"):
        result = message.tool_result
        result.text = shortened(result.text, topic, max_bytes)
        # The same as in the text, for programs.
        result.ClearField("data")
        del result.citations[_MOST_CITATIONS:]
        for citation in result.citations:
            citation.snippet = shortened(
                citation.snippet, topic, min(_SNIPPET_BYTES, max_bytes // 2)
            )


def shortened(text: str, topic: Words, max_bytes: int) -> str:
    """The sentences of `text` that have most to do with `topic`, as many as `max_bytes` hold."""
    if len(text) <= max_bytes and len(text.encode()) <= max_bytes:
        return text
    pieces = _BETWEEN.split(text[:_MOST_CHARACTERS].strip())
    shared = [len(topic.intersection(_WORD.findall(piece.lower()))) for piece in pieces]
    # Sorting is stable: among equals the earlier one comes first.
    ranked = sorted(range(len(pieces)), key=shared.__getitem__, reverse=True)
    left = max_bytes - len(_GAP.encode())
    kept: list[int] = []
    for index in ranked:
        size = len(pieces[index].encode()) + len(_GAP.encode())
        if pieces[index] and size <= left:
            kept.append(index)
            left -= size
    if not kept:
        return _cut(text, max_bytes)
    kept.sort()
    said: list[str] = []
    before = -1
    for index in kept:
        if index != before + 1:
            said.append("…")
        said.append(pieces[index])
        before = index
    if before != len(pieces) - 1:
        said.append("…")
    return " ".join(said)


def _cut(text: str, max_bytes: int) -> str:
    """The beginning and the end of a text that has no sentences."""
    room = max(max_bytes - len(_GAP.encode()), 0)
    head = text[: int(room * _HEAD_SHARE)].encode()[: int(room * _HEAD_SHARE)]
    tail_bytes = room - len(head)
    tail = text[-tail_bytes:].encode()[-tail_bytes:] if tail_bytes else b""
    return f"{head.decode(errors='ignore')}{_GAP}{tail.decode(errors='ignore')}"


def _shorten_struct(struct: struct_pb2.Struct, max_bytes: int) -> None:
    if struct.ByteSize() <= max_bytes:
        return
    for value in struct.fields.values():
        _shorten_value(value, max_bytes)


def _shorten_value(value: struct_pb2.Value, max_bytes: int) -> None:
    match value.WhichOneof("kind"):
        case "string_value":
            text = value.string_value
            if len(text.encode()) > max_bytes // 2:
                value.string_value = _cut(text, max_bytes // 2)
        case "struct_value":
            _shorten_struct(value.struct_value, max_bytes)
        case "list_value":
            values = value.list_value.values
            # A long list tells by its beginning what it is.
            del values[max_bytes // 16 + 1 :]
            for each in values:
                _shorten_value(each, max_bytes // 2)
        case _:
            pass
