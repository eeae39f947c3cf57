"""Triton with the mesh's models, as a child."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.triton_server import TritonOptions, assemble, command
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


def triton_child(binary: Path, data_dir: DataDir, port: int) -> ChildSpec:
    """Puts its models together and says how to run it."""
    repository = data_dir.run / NAME
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir()
    assemble(repository)

    async def probe() -> str | None:
        return await triton_version(port)

    return ChildSpec(
        name=NAME,
        title="Triton",
        command=command(TritonOptions(binary, port), repository),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=(port,),
        probe=probe,
        # Bytecode would land beside the sources that the repository links to.
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        ready_within_seconds=_READY_SECONDS,
    )


async def triton_version(port: int) -> str | None:
    """The version, once every model is loaded; None before."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    messages: Any = service_pb2
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
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
