"""The limits of tenants in the files that gateways read, kept up with the policy."""

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from meshkit.log import Log
from tasklog.policy import Policy

_NAMED: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

# What the filters are for a policy, by name.
Filters = Callable[[Policy], Mapping[str, Any]]


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...
    def on_change(self, listener: Callable[[], None]) -> None: ...


class GatewayFiles:
    """Writes a file for each filter. Any number of processes may write the same folder."""

    def __init__(self, folder: Path, policies: Policies, filters: Filters, log: Log) -> None:
        self._folder: Final = folder
        self._policies: Final = policies
        self._filters: Final = filters
        self._log: Final = log
        self._changed: Final = asyncio.Event()
        policies.on_change(self._changed.set)

    async def keep(self) -> None:
        """Writes what is in force, now and whenever it changes, until cancelled."""
        while True:
            self._changed.clear()
            await asyncio.to_thread(self._write)
            await self._changed.wait()

    def _write(self) -> None:
        for name, filter_ in self._filters(self._policies.current).items():
            try:
                written = _replace(self._folder / f"{name}.json", _resource(name, filter_))
            except OSError as error:
                # Gateways go on with the limits that they have.
                self._log.error("gateway_limits.not_written", filter=name, error=str(error))
            else:
                if written:
                    self._log.info("gateway_limits.written", filter=name)


def _resource(name: str, filter_: Any) -> str:
    resource = {"@type": _NAMED, "name": name, "typed_config": filter_}
    content = json.dumps(resource, sort_keys=True)
    version = hashlib.sha256(content.encode()).hexdigest()[:16]
    return json.dumps({"version_info": version, "resources": [resource]}, indent=1, sort_keys=True)


def _replace(path: Path, content: str) -> bool:
    """Puts `content` there at once, so that nobody reads a half of it; False if it is there."""
    # As bytes: what lies there may be no text at all.
    if path.is_file() and path.read_bytes() == content.encode():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    return True
