"""The call of a model that every system passes on: what is asked, and what comes back."""

import json
from typing import Any, Final

# The model, as everybody calls it. The mesh's price book has a price for it.
MODEL: Final = "stub"
QUESTION: Final = "What does it cost to pass this on? ".ljust(200, "?")
# The pieces of a streamed answer; a whole one has them all.
WORDS: Final = ("Less ", "than ", "a ", "millisecond, ", "one ", "hopes", ", ", "really.")
ANSWER: Final = "".join(WORDS)
INPUT_TOKENS: Final = 50
OUTPUT_TOKENS: Final = len(WORDS)
# Between two pieces of a streamed answer.
PIECE_SECONDS: Final = 0.002


def chat_request(*, stream: bool) -> bytes:
    """The call as a request of an API like OpenAI's."""
    request: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 64,
    }
    return json.dumps({**request, "stream": True} if stream else request).encode()


def chat_answer() -> bytes:
    """A whole answer."""
    message = {"role": "assistant", "content": ANSWER}
    return _json(
        object="chat.completion",
        choices=[{"index": 0, "message": message, "finish_reason": "stop"}],
        usage=_USAGE,
    )


def chat_chunks() -> list[bytes]:
    """A streamed answer: an event a piece, and the end."""
    deltas: list[dict[str, str]] = [{"content": word} for word in WORDS]
    deltas[0]["role"] = "assistant"
    chunks = [_chunk(delta, None) for delta in deltas]
    last = _json(object="chat.completion.chunk", choices=[], usage=_USAGE)
    end = b"".join(map(_event, (_chunk({}, "stop"), last, b"[DONE]")))
    return [*map(_event, chunks), end]


_USAGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _chunk(delta: dict[str, str], reason: str | None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return _json(object="chat.completion.chunk", choices=choices)


def _json(**content: Any) -> bytes:
    named = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": MODEL}
    return json.dumps({**named, **content}).encode()


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
