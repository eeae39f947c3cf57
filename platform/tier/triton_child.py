"""Triton with the mesh's models, as a child."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.triton_repository import RepositoryOptions, assemble
from models.triton_server import TritonOptions, command
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.ports import HOST

NAME: Final = "triton"
_VARIABLE: Final = "TRITON_SERVER"
_ANSWER_SECONDS: Final = 1.0
# Loading the models takes seconds, and longer on a busy machine.
_READY_SECONDS: Final = 90.0


def find_triton(environ: Mapping[str, str]) -> Path | None:
    """The launcher that the environment names; None where this machine has no Triton."""
    named = environ.get(_VARIABLE)
    path = Path(named).absolute() if named else None
    return path if path and os.access(path, os.X_OK) else None


@dataclass(frozen=True, slots=True)
class TritonPlan:
    """How one Triton is started.

    name: As in events, records and log files.
    metrics_port: None where nobody reads them.
    """

    name: str
    address: str
    port: int
    metrics_port: int | None
    repository: RepositoryOptions


def triton_child(binary: Path, data_dir: DataDir, plan: TritonPlan) -> ChildSpec:
    """Puts its models together and says how to run it. Raises BadModelFolder."""
    repository = data_dir.run / plan.name
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir()
    assemble(repository, plan.repository)
    options = TritonOptions(binary, plan.port, plan.metrics_port, plan.address)

    async def probe() -> str | None:
        return await triton_version(plan.port, plan.address)

    return ChildSpec(
        name=plan.name,
        title="Triton",
        command=command(options, repository),
        working_dir=data_dir.run,
        log=data_dir.rotate(plan.name),
        ports=(plan.port,),
        probe=probe,
        # Bytecode would land beside the sources that the repository links to.
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        ready_within_seconds=_READY_SECONDS,
    )


async def triton_version(port: int, address: str = HOST) -> str | None:
    """The version, once every model is loaded; None before."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    messages: Any = service_pb2
    async with grpc.aio.insecure_channel(f"{address}:{port}") as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            ready = await stub.ServerReady(messages.ServerReadyRequest(), timeout=_ANSWER_SECONDS)
            if not ready.ready:
                return None
            about = await stub.ServerMetadata(
                messages.ServerMetadataRequest(), timeout=_ANSWER_SECONDS
            )
        except grpc.aio.AioRpcError:
            return None
    return str(about.version)
