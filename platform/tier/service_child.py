"""A service as a process of its own, as a child."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.ports import HOST
from tier.python_child import python_environment
from tier.service_tls import ServiceTls
from tier.serving import who_serves_not
from tier.version import VERSION

_DEFAULT_TENANT: Final = "default"
# A machine with much else to do may take this long for what takes a second by itself.
_READY_SECONDS: Final = 120.0


def service_child(
    data_dir: DataDir,
    name: str,
    port: int,
    *,
    program: Sequence[str],
    values: Mapping[str, object],
    environment: Mapping[str, str] = {},
    secrets: frozenset[str] = frozenset(),
    tls: ServiceTls | None = None,
) -> ChildSpec:
    """Writes its configuration and says how to run it.

    Args:
        data_dir: Where its configuration and its log are written.
        name: Of the process, such as `executor-2`.
        port: Where it is to serve.
        program: The Python module whose `main` is run, and what it is told before `--config`.
        values: Its settings beside those of a process on this machine.
        environment: Added to the environment of this process.
        secrets: Variables of this process that it is given though they are secret.
        tls: By which it serves and calls, and is asked whether it serves; None for plain text.
    """
    configuration = data_dir.run / f"{name}.yaml"
    common: dict[str, object] = {
        "address": f"{HOST}:{port}",
        "default_tenant": _DEFAULT_TENANT,
        "log_format": "json",
    }
    if tls:
        common["tls"] = tls.settings.model_dump(mode="json")
    configuration.write_text(yaml.dump({**common, **values}, Dumper=yaml.CSafeDumper), "utf-8")
    program = (*program, "--config", str(configuration))

    async def probe() -> str | None:
        callee = tls.callee if tls else None
        return VERSION if not await who_serves_not(f"{HOST}:{port}", [""], callee) else None

    return ChildSpec(
        name=name,
        title=f"the {name} service",
        command=(sys.executable, "-P", "-m", "tier.service_program", *program),
        program=program,
        working_dir=Path.cwd(),
        log=data_dir.rotate(name),
        ports=(port,),
        probe=probe,
        environment={**python_environment(), **environment},
        ready_within_seconds=_READY_SECONDS,
        without=frozenset(each for each in os.environ if each.startswith("AGENTMESH_")),
        given=secrets,
    )
