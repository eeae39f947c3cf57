"""The server programs that were built together with this command."""

import importlib
from collections.abc import MutableMapping
from typing import Final

_NAMES: Final = ("NATS_SERVER", "REDIS_SERVER", "ENVOY")


def provide(environ: MutableMapping[str, str]) -> None:
    """Names each server in `environ`, unless the user did.

    Outside of a build there are none: the environment or PATH has to have them.
    """
    try:
        paths = importlib.import_module("third_party.server_paths")
    except ImportError:
        return
    for name in _NAMES:
        environ.setdefault(name, getattr(paths, name))
