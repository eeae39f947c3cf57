"""The Tritons of a mesh on one machine, and the way to them where there are several."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from models.models_gateway import SHIPPED, TritonPlace, relocate
from models.triton_repository import BadModelFolder, Device, RepositoryOptions, has_gpu
from tier import binaries, ports
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.envoy_admin import admin_socket, ready_version
from tier.failures import BadConfig
from tier.ports import HOST
from tier.python_child import python_environment
from tier.triton_child import NAME, TritonPlan, triton_child
from tier.triton_settings import TritonSettings
from tier.version import VERSION

# The Envoy before several Tritons, its name in `mesh/envoy`, and who tells it how busy they are.
GATEWAY: Final = "models-gateway"
ENVOY: Final = "models"
REPORTER: Final = "load-reporter"


class TritonServers:
    """One Triton that is called directly, or several behind an Envoy."""

    def __init__(
        self, binary: Path, settings: TritonSettings, data_dir: DataDir, environ: Mapping[str, str]
    ) -> None:
        """`binary`: Triton's launcher; `environ` names Envoy's."""
        self._binary: Final = binary
        self._settings: Final = settings
        self._data_dir: Final = data_dir
        self._environ: Final = environ
        self._gateway_port, self._reports_port = ports.free_ports(2)
        self._ports: Final = ports.free_ports(settings.servers)
        self._metrics_ports: Final = ports.free_ports(settings.servers)

    @property
    def target(self) -> str:
        """host:port of where they are called."""
        return f"{HOST}:{self._gateway_port if self._several else self._ports[0]}"

    @property
    def reasoning(self) -> Mapping[str, object]:
        """What reasoning is told of them: who embeds, and what else they serve."""
        code = ["code_embedder"] if self._settings.code_embedder else []
        return {
            "embedder": "triton",
            "triton_target": self.target,
            "triton_models": ["text_generation", *code],
        }

    def specs(self) -> Sequence[ChildSpec]:
        """How all of it is run. Raises BadConfig for a folder that is no model."""
        try:
            tritons = [
                triton_child(self._binary, self._data_dir, self._plan(number))
                for number in range(self._settings.servers)
            ]
        except BadModelFolder as error:
            raise BadConfig(f"triton.{error}") from None
        return [*tritons, self._reporter(), self._gateway()] if self._several else tritons

    @property
    def _several(self) -> bool:
        return self._settings.servers > 1

    def _plan(self, number: int) -> TritonPlan:
        return TritonPlan(
            name=f"{NAME}-{number + 1}" if self._several else NAME,
            address=self._address(number),
            port=self._ports[number],
            metrics_port=self._metrics_ports[number] if self._several else None,
            repository=RepositoryOptions(
                code_embedder=self._settings.code_embedder,
                device=Device(self._settings.device),
                instances={**self._settings.instances},
            ),
        )

    def _address(self, number: int) -> str:
        """Each of several has its own: Envoy asks for reports at one port of each address."""
        return f"127.0.0.{number + 1}"

    def _reporter(self) -> ChildSpec:
        places = [
            f"{self._address(number)}:{self._reports_port}={self._address(number)}:{port}"
            for number, port in enumerate(self._metrics_ports)
        ]

        async def probe() -> str | None:
            return VERSION

        return ChildSpec(
            name=REPORTER,
            title="the load reporter",
            command=(sys.executable, "-P", "-m", "models.orca_reporter", *places),
            working_dir=Path.cwd(),
            log=self._data_dir.rotate(REPORTER),
            ports=(self._reports_port,),
            probe=probe,
            environment=python_environment(),
        )

    def _gateway(self) -> ChildSpec:
        shipped = yaml.load(
            (binaries.repository_root() / SHIPPED).read_text("utf-8"), Loader=yaml.CSafeLoader
        )
        gpu = self._settings.device == "gpu" or (self._settings.device == "auto" and has_gpu())
        places = [
            TritonPlace(self._address(number), port, gpu=gpu)
            for number, port in enumerate(self._ports)
        ]
        configuration = self._data_dir.run / f"{GATEWAY}.json"
        moved = relocate(shipped, places, port=self._gateway_port, reports_port=self._reports_port)
        configuration.write_text(json.dumps(moved, indent=1), "utf-8")

        admin = admin_socket(self._data_dir.run, ENVOY)

        async def probe() -> str | None:
            return await ready_version(admin)

        return ChildSpec(
            name=GATEWAY,
            title="Envoy before the Tritons",
            command=(
                *(binaries.find(binaries.ENVOY, self._environ), "-c", configuration),
                *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
            ),
            working_dir=self._data_dir.run,
            log=self._data_dir.rotate(GATEWAY),
            ports=(self._gateway_port,),
            probe=probe,
        )
