"""Starting, watching and ending a mesh on one machine: all that others use of this package.

Importing this is cheap; what is heavy is imported by the functions that need it.
"""

from collections.abc import Mapping
from pathlib import Path

from tier.data_dir import DataDir
from tier.detached import start_detached, stop_detached
from tier.events import Event, Phase, Progress
from tier.failures import (
    AlreadyRunning,
    BadConfig,
    BadOptions,
    BinaryMissing,
    DataDirNotWritable,
    MeshStartError,
    PortTaken,
    ScaleUnreadable,
    StartFailed,
)
from tier.mesh import RunningMesh, start
from tier.options import LOOPBACK, MeshOptions, Tier, default_data_dir
from tier.postgres_binary import find_postgres
from tier.reports import Check, ProcessStatus
from tier.scale_file import ScaleFile
from tier.state import MeshState, ProcessRecord, read_state

__all__ = [
    "LOOPBACK",
    "AlreadyRunning",
    "BadConfig",
    "BadOptions",
    "BinaryMissing",
    "Check",
    "DataDirNotWritable",
    "Event",
    "MeshOptions",
    "MeshStartError",
    "MeshState",
    "Phase",
    "PortTaken",
    "ProcessRecord",
    "ProcessStatus",
    "Progress",
    "RunningMesh",
    "ScaleUnreadable",
    "StartFailed",
    "Tier",
    "default_data_dir",
    "doctor",
    "find_postgres",
    "forget_scale",
    "kept_scale",
    "log_files",
    "own_ledger",
    "read_state",
    "scale",
    "start",
    "start_detached",
    "status",
    "stop_detached",
]


async def status(state: MeshState) -> list[ProcessStatus]:
    """How each process of the mesh is, and what it uses; takes a fifth of a second."""
    from tier import status as implementation

    return await implementation.status(state)


async def doctor(options: MeshOptions) -> list[Check]:
    """Whether this machine can run a mesh, and what stands in the way."""
    from tier import doctor as implementation

    return await implementation.doctor(options)


async def scale(data_dir: Path, wanted: Mapping[str, int]) -> Mapping[str, tuple[int, int]]:
    """Has the staging mesh on `data_dir` have so many processes of each part.

    How many each had, and has. Raises BadOptions for what cannot be, StartFailed where a
    process does not come up, ConnectionError and TimeoutError where the mesh does not answer.
    """
    from tier import control

    return await control.ask_scale(DataDir(data_dir).run, wanted)


def kept_scale(data_dir: Path) -> Mapping[str, int]:
    """How many processes of a part were asked for, if somebody did; the next start has as many.

    Raises ScaleUnreadable where that is damaged.
    """
    return ScaleFile(data_dir).read()


def forget_scale(data_dir: Path) -> bool:
    """Has the next start begin with one process of each part; False where it would anyway."""
    return ScaleFile(data_dir).forget()


def own_ledger(state: MeshState) -> str:
    """Where the mesh keeps what was spent, unless its settings say otherwise: a file that may
    not be there, or an address.
    """
    from tier import postgres_child

    for each in state.processes:
        if each.name == postgres_child.NAME:
            return postgres_child.access_to(state.data_dir, each.ports[0]).whole_address
    return str(state.data_dir / "governor" / "ledger.sqlite")


def log_files(data_dir: Path) -> dict[str, Path]:
    """The logs of the mesh on `data_dir`, by part.

    `access` is the gateway's: a JSON object a line, one for each call.
    """
    return DataDir(data_dir).log_files()
