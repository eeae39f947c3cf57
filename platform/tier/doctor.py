"""Whether this machine can run a mesh, and what stands in the way."""

import os
import subprocess
from collections.abc import Callable
from typing import Final

import psutil

from tier import binaries, ports
from tier.binaries import Binary
from tier.data_dir import DataDir
from tier.failures import BadConfig, MeshStartError
from tier.options import MeshOptions
from tier.postgres_binary import find_postgres
from tier.reports import Check
from tier.state import read_state
from tier.status import status
from tier.wakefulness import DEVICE, may_keep_awake

_WANTED_MEMORY_MB: Final = 1024
_VERSION_SECONDS: Final = 10.0
_MEGABYTE: Final = 1024 * 1024


async def doctor(options: MeshOptions) -> list[Check]:
    """Looks at all that a start needs, and at the mesh where one runs."""
    checks = [_binary(each) for each in binaries.ALL]
    checks.append(_postgres())
    checks.append(_tried("data directory", f"{options.data_dir} is writable", _writable(options)))
    checks.append(_tried("configuration", _configured(options), _configuration(options)))
    checks.append(_memory())
    checks.append(_processors(_may_sleep(options)))
    state = read_state(options.data_dir)
    if state is None:
        checks += [_port(options.port), _tls_port(options.tls_port)]
        return [*checks, Check("mesh", True, "none runs on this data directory")]
    checks += [
        Check(
            f"running {each.name}",
            each.healthy,
            each.detail,
            "" if each.healthy else f"see `agentmesh logs {each.name}`",
        )
        for each in await status(state)
    ]
    return checks


def _tried(name: str, fine: str, attempt: Callable[[], object]) -> Check:
    try:
        attempt()
    except MeshStartError as error:
        wrong, _, remedy = str(error).partition(": ")
        return Check(name, False, wrong, remedy)
    return Check(name, True, fine)


def _port(port: int) -> Check:
    purpose = "gateway"
    free = f"{port} ({purpose}) is free"
    return _tried(f"port {port}", free, lambda: ports.require_free(port, purpose))


def _tls_port(port: int) -> Check:
    """One that is taken is no failure: the prototype does without."""
    name, purpose = f"port {port}", "the gateway's TLS, in staging"
    if ports.is_free(port):
        return Check(name, True, f"{port} ({purpose}) is free")
    remedy = "for staging choose another port with --port"
    return Check(name, True, f"{port} ({purpose}) is taken", remedy)


def _binary(binary: Binary) -> Check:
    name = f"{binary.title} binary"
    try:
        path = binaries.find(binary, os.environ)
        told = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_SECONDS,
            check=True,
        ).stdout.split("\n")
    except MeshStartError as error:
        wrong, _, remedy = str(error).partition(": ")
        return Check(name, False, wrong, remedy)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, f"{error}", f"set {binary.variable} to one that runs here")
    return Check(name, True, next((line.strip() for line in told if line.strip()), str(path)))


def _postgres() -> Check:
    """None is no failure: staging does without."""
    found = find_postgres(os.environ)
    if found:
        return Check("PostgreSQL", True, f"{found}: staging keeps its read model and ledger there")
    return Check(
        "PostgreSQL",
        True,
        "none: staging uses SQLite, and has one coordinator",
        "for several, install it (on Debian and Ubuntu: apt-get install postgresql), or set "
        "POSTGRES_SERVER to a launcher of one",
    )


def _writable(options: MeshOptions) -> Callable[[], object]:
    return DataDir(options.data_dir).prepare


def _configured(options: MeshOptions) -> str:
    return f"{options.config} is fine" if options.config else "the defaults"


def _configuration(options: MeshOptions) -> Callable[[], object]:
    def attempt() -> None:
        from tier.settings import load_settings

        load_settings(options.config, os.environ)

    return attempt


def _memory() -> Check:
    available_mb = psutil.virtual_memory().available // _MEGABYTE
    detail = f"{available_mb} MB available"
    if available_mb >= _WANTED_MEMORY_MB:
        return Check("memory", True, detail)
    return Check("memory", False, detail, f"free {_WANTED_MEMORY_MB} MB: a mesh uses 600 at rest")


def _may_sleep(options: MeshOptions) -> bool:
    """Whether the settings say so; those that are wrong say nothing."""
    from tier.settings import load_settings

    try:
        return not load_settings(options.config, os.environ).machine.awake_while_busy
    except BadConfig:
        return False


def _processors(may_sleep: bool) -> Check:
    """Those that sleep are no failure: calls wait until they wake up."""
    name = "processors"
    if may_sleep:
        return Check(name, True, "sleep between the calls of staging, as the settings say")
    if may_keep_awake():
        return Check(name, True, "staging keeps them awake while it is busy")
    remedy = f"for quicker calls let this user write to {DEVICE}"
    return Check(name, True, "sleep between the calls of staging", remedy)
