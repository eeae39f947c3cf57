"""What every command knows: where the mesh is, on whose behalf, how to answer."""

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from cli.problem import Problem
from cli.terminal import Terminal

DEFAULT_TENANT: Final = "default"
_HOST_PORT: Final = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_TLS: Final = "https://"


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that every command takes."""

    # Where the mesh keeps its state; also tells which running mesh is meant.
    data_dir: Path
    tenant: str
    terminal: Terminal
    # The gateway's port on this machine, where the user named one.
    port: int | None
    # `host:port` of the gateway, where the user named one.
    gateway: str | None
    # Whether that one takes TLS.
    tls: bool = False
    # The certificate of the authority that the gateway's is checked by.
    ca: Path | None = None
    # The file of the API key, or token, to call with.
    key: Path | None = None
    # The words with which another command means the same mesh and tenant.
    same: tuple[str, ...] = ()
    # time.monotonic() when the command began.
    started: float = field(default_factory=time.monotonic)

    @property
    def named_gateway(self) -> str | None:
        """The gateway that the user named, by address or port."""
        if self.gateway:
            return self.gateway
        return f"127.0.0.1:{self.port}" if self.port else None

    @property
    def parent(self) -> str:
        """The tenant's resource name."""
        return f"tenants/{self.tenant}"

    def command(self, *words: str) -> str:
        """A command line to paste, `agentmesh task get ID`, for the same mesh and tenant."""
        return " ".join(["agentmesh", *words, *map(shlex.quote, self.same)])

    def name(self, collection: str, given: str) -> str:
        """The full name of a resource that the user may have named by its id alone."""
        if not given.strip():
            raise Problem(f"The name of the {collection[:-1]} is empty.")
        return given if "/" in given else f"{self.parent}/{collection}/{given}"


def invocation(context: click.Context) -> Invocation:
    """The invocation of the command that runs, from the options before and after its name."""
    given: Mapping[str, Any] = context.meta
    named: str | None = given.get("cli.gateway")
    tls = named is not None and named.startswith(_TLS)
    gateway = named.removeprefix(_TLS).removesuffix("/") if named is not None and tls else named
    if gateway is not None and not _HOST_PORT.fullmatch(gateway):
        raise Problem(
            "--gateway must be HOST:PORT, such as 127.0.0.1:8080, or https://HOST:PORT for TLS,"
            f" not {named!r}.",
            exit_code=2,
        )
    if given.get("cli.ca") is not None and not tls:
        raise Problem(
            "--ca is of use for TLS alone: name the gateway with --gateway https://HOST:PORT.",
            exit_code=2,
        )
    if gateway is not None and given.get("cli.port") is not None:
        raise Problem("--gateway and --port both name the gateway: give one.", exit_code=2)
    return Invocation(
        data_dir=(given.get("cli.data_dir") or _default_data_dir()).absolute(),
        tenant=given.get("cli.tenant") or DEFAULT_TENANT,
        terminal=Terminal(as_json=bool(given.get("cli.json"))),
        port=given.get("cli.port"),
        gateway=gateway,
        tls=tls,
        ca=given.get("cli.ca"),
        key=given.get("cli.key"),
        same=_same(given),
    )


def _same(given: Mapping[str, Any]) -> tuple[str, ...]:
    data_dir: Path | None = given.get("cli.data_dir")
    ca: Path | None = given.get("cli.ca")
    key: Path | None = given.get("cli.key")
    options = {
        "--data-dir": data_dir.absolute() if data_dir else None,
        "--port": given.get("cli.port"),
        "--gateway": given.get("cli.gateway"),
        "--ca": ca.absolute() if ca else None,
        "--key": key.absolute() if key else None,
        "--tenant": given.get("cli.tenant"),
    }
    return tuple(word for name, value in options.items() if value for word in (name, str(value)))


def _default_data_dir() -> Path:
    from tier.api import default_data_dir

    return default_data_dir()
