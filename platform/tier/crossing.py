"""The proxy between the services of a mesh, and where both Envoys find their instances."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tier import envoy_admin, ports
from tier.certificate_files import CertificateFiles
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.endpoint_files import EndpointFiles
from tier.envoy_admin import InstanceInUse, admin_socket
from tier.identities import GATEWAY, PROXY
from tier.ports import HOST
from tier.proxy_child import proxy_child

# The folder of a mesh in which the files lie that say where instances are.
ENDPOINTS: Final = "endpoints"
_LOOK_SECONDS: Final = 0.05
# Envoy reads a file within milliseconds.
_KNOWN_WITHIN_SECONDS: Final = 5.0

_Instances = Mapping[int, InstanceInUse]


class Crossing:
    """Where services call each other; instances come and go behind it."""

    def __init__(
        self,
        binary: Path,
        data_dir: DataDir,
        repository: Path,
        *,
        called: Sequence[str],
        certificates: CertificateFiles | None,
    ) -> None:
        """`called`: the parts that others call. `certificates`: the proxy's; None in plain text."""
        self._files: Final = EndpointFiles(data_dir.folder(ENDPOINTS))
        self._ports: Final = dict(zip(called, ports.free_ports(len(called)), strict=True))
        self._gateway: Final = admin_socket(data_dir.run, GATEWAY)
        self._proxy: Final = admin_socket(data_dir.run, PROXY)
        self._make: Final = lambda: proxy_child(
            binary,
            data_dir,
            repository,
            ports=self._ports,
            endpoints=self._files.folder,
            certificates=certificates,
        )

    @property
    def folder(self) -> Path:
        """Of the files that say where instances are."""
        return self._files.folder

    def spec(self) -> ChildSpec:
        """How the proxy is run."""
        return self._make()

    def target(self, part: str) -> str:
        """Where a part is called; KeyError for one that nobody calls."""
        return f"{HOST}:{self._ports[part]}"

    def set(self, cluster: str, instances: Sequence[int]) -> None:
        """From now on a cluster has its instances at these ports."""
        self._files.write(cluster, instances)

    async def take_out(
        self, part: str, staying: Sequence[int], leaving: Sequence[int], *, within_seconds: float
    ) -> None:
        """Has instances get no more calls; returns when those that they have are done.

        What is still under way after `within_seconds` is theirs to finish as they end.
        """
        self._files.write(part, staying, draining=leaving)

        def are_idle(known: _Instances) -> bool:
            left = [known[each] for each in leaving if each in known]
            return all(each.draining and not each.calls for each in left)

        await self._until(part, are_idle, within_seconds)
        self._files.write(part, staying)
        await self._until(part, lambda known: not known.keys() & {*leaving}, _KNOWN_WITHIN_SECONDS)

    async def _until(
        self, part: str, condition: Callable[[_Instances], bool], within_seconds: float
    ) -> None:
        """Returns when it holds at each Envoy that knows the part, or when the time is over."""
        envoys = (*((self._proxy,) if part in self._ports else ()), self._gateway)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within_seconds
        for envoy in envoys:
            while not condition(await _instances(envoy, part)):
                if loop.time() > give_up:
                    return
                await asyncio.sleep(_LOOK_SECONDS)


async def _instances(envoy: Path, part: str) -> _Instances:
    try:
        return await envoy_admin.instances(envoy, part)
    except OSError:
        return {}  # an Envoy that is away has no calls
