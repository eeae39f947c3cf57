"""How many processes parts had last: a file by which the next start has as many."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tier import scaling
from tier.failures import BadOptions, ScaleNotKept, ScaleUnreadable

NAME: Final = "scale.json"
# As many as a start may be told.
_MOST: Final = 64


class ScaleFile:
    """Counts by part, of those that somebody asked for. Parts that are not named have one."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the data directory."""
        self._file: Final = folder / NAME

    def read(self) -> Mapping[str, int]:
        """What was asked for last; ScaleUnreadable where the file is no such thing."""
        try:
            counts: Any = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is no JSON"
            raise ScaleUnreadable(self._file, cause or str(error)) from None
        try:
            return {part: _count(part, count) for part, count in counts.items()}
        except (AttributeError, BadOptions) as error:
            cause = str(error) if isinstance(error, BadOptions) else "it is no JSON object"
            raise ScaleUnreadable(self._file, cause) from None

    def keep(self, counts: Mapping[str, int]) -> None:
        """Adds to what was asked for; ScaleNotKept where it cannot be written."""
        draft = self._file.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text(json.dumps({**self.read(), **counts}, indent=1), "utf-8")
            draft.replace(self._file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ScaleNotKept(self._file, error.strerror or str(error)) from None

    def forget(self) -> bool:
        """Goes back to one process of each part; False where nothing was asked for."""
        try:
            self._file.unlink()
        except FileNotFoundError:
            return False
        return True


def _count(part: str, count: object) -> int:
    scaling.check_part(part)
    if not isinstance(count, int) or not 1 <= count <= _MOST:
        raise BadOptions(f"{count!r} processes of {part} make no sense")
    return count
