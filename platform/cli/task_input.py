"""What a user asks for, checked before anything is started or sent."""

import sys
from typing import Final

from cli.problem import Problem

MAX_TEXT_BYTES: Final = 1024 * 1024
_REMEDY: Final = "Put long material into files and pass them with --docs."


def checked_text(text: str) -> str:
    """`text`, or what stdin holds if it is `-`, if a task can be made of it.

    Raises Problem where it is empty, over 1 MiB, or not UTF-8.
    """
    if text == "-":
        text = _stdin()
    if not text.strip():
        raise Problem("The text is empty.", 'Say what to do, as in agentmesh ask "What is 2 + 2?".')
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise Problem(f"The text is not UTF-8: invalid byte at character {error.start}.") from None
    if length > MAX_TEXT_BYTES:
        raise Problem(
            f"The text has {length:,} bytes, and a task may have {MAX_TEXT_BYTES:,} at most.",
            _REMEDY,
        )
    return text


def _stdin() -> str:
    # No more than needed to see that it is too much: a pipe may never end.
    content = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise Problem(
            f"The text on stdin has over {MAX_TEXT_BYTES:,} bytes, the most for a task.", _REMEDY
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise Problem(
            f"The text on stdin is not UTF-8: invalid byte 0x{byte:02x} at offset {error.start}.",
            "Convert it, as with `iconv -f LATIN1 -t UTF-8`.",
        ) from None
