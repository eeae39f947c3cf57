"""The prototype tier's composition root: the making of all six services in one process.

Importing it imports everything that the services use, which takes most of a start's time.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from meshkit.service import Resources, Service
from services.coordinator import main as coordinator
from services.executor import main as executor
from services.governor import main as governor
from services.memory import main as memory
from services.reasoning import main as reasoning
from services.tool import main as tool
from tier.embedded import Build, ResourcesOf
from tier.settings import Settings, load_settings


def load(path: Path | None, environ: Mapping[str, str]) -> Build:
    """What builds every service with the settings of that file and environment.

    Raises BadConfig.
    """
    return functools.partial(_build, load_settings(path, environ))


async def _build(settings: Settings, resources_of: ResourcesOf) -> Sequence[Service]:
    def with_log(name: str) -> Resources:
        return replace(resources_of(name), task_partitions=settings.task_partitions)

    return [
        await governor.build(resources_of("governor"), settings.governor),
        await reasoning.build(resources_of("reasoning"), settings.reasoning),
        await memory.build(resources_of("memory"), settings.memory),
        await tool.build(resources_of("tool"), settings.tool),
        # Makes the streams that the executor reads.
        await coordinator.build(with_log("coordinator"), settings.coordinator),
        await executor.build(with_log("executor"), settings.executor),
    ]
