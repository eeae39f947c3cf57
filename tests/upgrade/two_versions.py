"""Staging whose services are of one version, and of another one after the other."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.upgrade.previous import Previous
from tier import api, scaling
from tier.api import Event, MeshOptions, Phase, RunningMesh, Tier
from tier.child import ChildSpec
from tier.separate import SeparateServices

# Of this there is one alone where its vectors are files: the one goes before the other comes.
_ALONE: Final = "memory"
# Who follows a task that waits is cut off then, and follows on elsewhere.
_DRAIN_SECONDS: Final = 3.0


class Version(Enum):
    """Of which of the two a process is."""

    PREVIOUS = "previous"
    PRESENT = "present"


class TwoVersions(SeparateServices):
    """Staging's services. They start as those of the earlier version."""

    def __init__(self, previous: Previous, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._previous: Final = previous
        # What is made from now on, by part.
        self._wanted: Final[dict[str, Version]] = {}

    async def replace(self, part: str, version: Version) -> None:
        """Starts an instance of `version`; `retire` ends those that were there before it."""
        self._wanted[part] = version
        if part == _ALONE:
            await self._take(part, tuple(self._names[part]))
        await self._add(part, scaling.more_names(part, self._names[part], self._count(part) + 1))
        self._watchers.tell()

    async def retire(self, part: str) -> None:
        """Ends all instances of a part but the newest."""
        await self._take(part, tuple(self._names[part][:-1]))
        self._watchers.tell()

    def _count(self, part: str) -> int:
        return len(self._names[part])

    def _spec(self, name: str) -> ChildSpec:
        spec = super()._spec(name)
        part = name.partition("-")[0]
        if not self._sections.get(part, {}).get("read_model"):
            self._give_own_files(name, spec)
        if self._wanted.get(part, Version.PREVIOUS) is Version.PRESENT:
            return spec
        return dataclasses.replace(
            spec,
            title=f"{spec.title} (previous)",
            command=self._previous.command(spec.program),
            environment={**spec.environment, **self._previous.environment},
            # A nursery has the code of today.
            program=(),
        )

    def _give_own_files(self, name: str, spec: ChildSpec) -> None:
        """Coordinators that have no database in common copy the log each for itself."""
        if not name.startswith("coordinator"):
            return
        configuration = Path(spec.program[-1])
        values = yaml.safe_load(configuration.read_text("utf-8"))
        values["data_dir"] = str(self._data_dir.folder(name))
        configuration.write_text(yaml.safe_dump(values), "utf-8")


class UpgradedMesh:
    """The mesh, as verdicts look at it."""

    def __init__(self, services: TwoVersions, mesh: RunningMesh, deaths: list[str]) -> None:
        """Made by `running` alone."""
        self.services: Final = services
        # Who died though nobody ended it.
        self.deaths: Final = deaths
        # Its tools change nothing outside.
        self.outside: Final = None
        self.address: Final = mesh.address
        ports: Mapping[str, int] = {
            each.name: each.ports[0] for each in mesh.state.processes if each.ports
        }
        self.nats_url: Final = f"nats://127.0.0.1:{ports['nats']}"
        self.redis_url: Final = f"redis://127.0.0.1:{ports['redis']}"
        self.counters_url: Final = f"redis://127.0.0.1:{ports['redis-counters']}"


@asynccontextmanager
async def running(
    folder: Path, previous: Previous, postgres: Path | None, patch: pytest.MonkeyPatch
) -> AsyncGenerator[UpgradedMesh]:
    """A mesh of the earlier version, with its state in `folder`."""
    made: list[TwoVersions] = []
    deaths: list[str] = []

    def services(**arguments: Any) -> TwoVersions:
        made.append(TwoVersions(previous, **arguments))
        return made[0]

    def tell(event: Event) -> None:
        print(f"{event.seconds:7.3f} s  {event.part:13} {event.text}")
        if event.phase is Phase.DIED:
            deaths.append(event.text)

    patch.setattr("tier.separate.SeparateServices", services)
    patch.setattr("tier.separate._DRAIN_SECONDS", _DRAIN_SECONDS)
    options = MeshOptions(
        tier=Tier.STAGING, data_dir=folder, port=0, no_auth=True, postgres=postgres
    )
    async with await api.start(options, tell) as mesh:
        yield UpgradedMesh(made[0], mesh, deaths)
