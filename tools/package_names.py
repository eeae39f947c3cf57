"""Names every package that is imported and that no requirements.in names.

    package_names.py [FILE.py ...]

What is there only because another package asks for it may go with any upgrade of that one. A file
may import what `third_party/python/requirements.in` names, and what one beside it does. Exits with
1 if a package is not named.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_REQUIREMENTS: Final = Path("third_party/python/requirements.in")
_NAME: Final = re.compile(r"^[\w.-]+", re.M)
# Folders on Python's path, besides the root.
_ROOTS: Final = ("platform", "proto")
# Where a package is not called as its module.
_PACKAGES: Final = {
    "cyclonedx": "cyclonedx-python-lib",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_channelz": "grpcio-channelz",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "grpc_tools": "grpcio-tools",
    "hdrh": "hdrhistogram",
    "jwt": "pyjwt",
    "markdown_it": "markdown-it-py",
    "nats": "nats-py",
    "packageurl": "packageurl-python",
    "psycopg_pool": "psycopg",
    "restate": "restate-sdk",
    "yaml": "pyyaml",
}


def unnamed(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and package of everything that `file` imports though nobody names it."""
    named = _named(root / _REQUIREMENTS) | _named(root / file.parent / _REQUIREMENTS.name)
    for node in ast.walk(ast.parse((root / file).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = [node.module]
        else:
            continue
        for module in modules:
            top = module.partition(".")[0]
            package = _PACKAGES.get(top, top.replace("_", "-"))
            if package not in named and not _is_ours(top, root):
                yield node.lineno, package


@cache
def _named(requirements: Path) -> frozenset[str]:
    if not requirements.exists():
        return frozenset()
    return frozenset(_NAME.findall(requirements.read_text("utf-8")))


@cache
def _is_ours(top: str, root: Path) -> bool:
    if top in sys.stdlib_module_names:
        return True
    return any((folder / top).is_dir() for folder in (root, *(root / each for each in _ROOTS)))


def main(files: list[str]) -> int:
    """Prints what is not named; how the process ends."""
    found = [(file, *each) for file in files for each in unnamed(Path(file), Path.cwd())]
    for file, line, package in found:
        print(f"{file}:{line}: {package} is not in {_REQUIREMENTS}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
