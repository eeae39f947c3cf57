"""Reads data sets: files of JSON objects, one a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file in order. The file's maker knows what is in them."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
