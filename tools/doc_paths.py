"""Names every file, and every test, that a Markdown page points to and that is not there.

    doc_paths.py [FILE.md ...]

A page points to a file by a link, or by its path from the root in backquotes,
and to a test of it as pytest does, by `path::name`. Exits with 1 if one is missing.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LINK: Final = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)")
_PATH: Final = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|proto|md|yaml|lua|bzl|txt))`")
_TEST: Final = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.py)::(\w+)(?:\[[^`]*\])?`")


def missing(page: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and path of everything that `page` points to in vain."""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        for target in _LINK.findall(line):
            if not (page.parent / target).exists():
                yield number, target
        for target in _PATH.findall(line):
            if not ((root / target).exists() or (page.parent / target).exists()):
                yield number, target
        for path, name in _TEST.findall(line):
            if not _has_test(root / path, name):
                yield number, f"{path}::{name}"


def _has_test(path: Path, name: str) -> bool:
    defined = re.compile(rf"^(?:async )?def {name}\(", re.M)
    return path.exists() and defined.search(path.read_text("utf-8")) is not None


def main(pages: list[str]) -> int:
    """Prints what is missing; how the process ends."""
    root = Path.cwd()
    found = [(page, *each) for page in pages for each in missing(Path(page), root)]
    for page, number, target in found:
        print(f"{page}:{number}: there is no {target}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
