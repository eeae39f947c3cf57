"""Where the servers' binaries are."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tier.failures import BinaryMissing


@dataclass(frozen=True, slots=True)
class Binary:
    """A server that the mesh starts."""

    title: str
    # The environment variable that names its path.
    variable: str
    # Its name on PATH.
    command: str


NATS: Final = Binary("NATS", "NATS_SERVER", "nats-server")
REDIS: Final = Binary("Redis", "REDIS_SERVER", "redis-server")
ENVOY: Final = Binary("Envoy", "ENVOY", "envoy")
ALL: Final = (NATS, REDIS, ENVOY)


def find(binary: Binary, environ: Mapping[str, str]) -> Path:
    """The path that the environment names, or else that on PATH.

    BinaryMissing where there is none.
    """
    named = environ.get(binary.variable)
    if named:
        path = Path(named).absolute()
        if path.is_file() and os.access(path, os.X_OK):
            return path
        raise BinaryMissing(binary.title, binary.variable, f"{binary.variable} says {path}")
    on_path = shutil.which(binary.command, path=environ.get("PATH"))
    if on_path:
        return Path(on_path).absolute()
    raise BinaryMissing(binary.title, binary.variable, f"no {binary.command} on PATH")


def repository_root() -> Path:
    """The root of this repository: a checkout, or its copy among a program's runfiles."""
    return Path(__file__).absolute().parents[2]
