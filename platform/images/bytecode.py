"""Compiled modules that are the same wherever they were made."""

import importlib.util
import marshal
from pathlib import Path
from types import CodeType
from typing import Final

_HEADER_BYTES: Final = 16
# Never compared with the source, which cannot change in an image.
_UNCHECKED: Final = 0b01
# An older format: it says nothing about how often objects were referred to while it was written,
# which differs from one run to the next.
_FORMAT: Final = 2


def compiled_path(name: str) -> str:
    """Where the compiled form of a module lies, beside the folder of the module `name`.py."""
    return importlib.util.cache_from_source(f"{name}.py")


def compiled(source: Path, place: str) -> bytes:
    """The compiled form of a module.

    Args:
        source: The module. What is compiled beside it is used if it is this source's: a package
            is installed with it, and to compile all again takes a minute.
        place: Where the module will be found, for traces.
    """
    text = source.read_bytes()
    code = _found(source, len(text)) or compile(text, place, "exec", dont_inherit=True)
    header = (
        importlib.util.MAGIC_NUMBER
        + _UNCHECKED.to_bytes(4, "little")
        + importlib.util.source_hash(text)
    )
    return header + marshal.dumps(_moved(code, place), _FORMAT)


def _found(source: Path, size: int) -> CodeType | None:
    try:
        content = (source.parent / compiled_path(source.stem)).read_bytes()
    except OSError:
        return None
    expected = (
        importlib.util.MAGIC_NUMBER
        + bytes(4)
        + (int(source.stat().st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        + size.to_bytes(4, "little")
    )
    return marshal.loads(content[_HEADER_BYTES:]) if content.startswith(expected) else None


def _moved(code: CodeType, place: str) -> CodeType:
    """The same code, with all that it consists of, from another file."""
    constants = tuple(
        _moved(each, place) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(co_filename=place, co_consts=constants)
