"""Finds the files of ours that a program needs, by what it and they import."""

import ast
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# Top-level packages that are ours, or are made from our contracts.
_OURS: Final = frozenset(("agentmesh", "meshkit", "models", "services"))


def imported_code(program: Path) -> Mapping[Path, Path]:
    """The file of every module of ours that `program` imports, at any depth.

    By the path under which Python would find it, such as `models/minilm/texts.py`. What is
    imported for type checks alone comes along. Raises ModuleNotFoundError.
    """
    found: dict[str, Path] = {}
    waiting = list(_imports(program))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name}: imported from here, and not to be found", name=name)
        found[name] = Path(spec.origin)
        waiting += _imports(found[name])
    return {Path(*name.split(".")).with_suffix(".py"): file for name, file in found.items()}


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Import():
                yield from (each.name for each in node.names if _is_ours(each.name))
            case ast.ImportFrom(module=str() as module, level=0) if _is_ours(module):
                inner = [f"{module}.{each.name}" for each in node.names]
                modules = [name for name in inner if _is_module(name)]
                yield from modules or [module]
            case _:
                pass


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


def _is_module(name: str) -> bool:
    """Whether `name` is a module with a file, and not something in one."""
    parent = find_spec(name.rpartition(".")[0])
    # Only a package has modules inside.
    return bool(parent and parent.submodule_search_locations and find_spec(name))
