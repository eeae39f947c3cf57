"""Each service starts in the root file system of its image, serves, and ends when it is told to.

There is no container engine where this runs. The layers are unpacked, and the service is started
as the Dockerfile says in a user namespace: as user 65532, with the image's files, this machine's
interpreter in the place of the base image's, a root that nobody can write to, and this machine's
loopback interface with a real NATS and Redis. Where a machine allows no user namespaces, it runs
out of the unpacked folder, as who runs the tests; a warning says so.
"""

import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from images import jail
from images.assembled import SERVICES, target, unpack, unpack_layer
from meshkit.constants import NO_HTTP_PROXY
from meshtest.child_server import free_port
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer

_NO_NAMESPACES = (
    "This machine allows no user namespaces: the service runs out of the unpacked folder, as who"
    " runs the tests, and that its root cannot be written to is not seen."
)
# Where pods have their settings.
_SETTINGS = "/etc/agentmesh/settings.yaml"
# Stores that are not there, and files in their place.
_FILES_INSTEAD = {
    "coordinator": {"AGENTMESH_COORDINATOR__READ_MODEL": ""},
    "governor": {"AGENTMESH_GOVERNOR__LEDGER_DATABASE": ""},
}
# On a machine with much else to do.
_SECONDS = 120.0
_LOOK_AROUND = """
import errno, os
assert os.getuid() == os.geteuid() == 65532, os.getuid()
for folder in ("/", "/app", "/app/services", "/usr", "/var"):
    try:
        open(f"{folder}/new", "w")
    except OSError as error:
        assert error.errno == errno.EROFS, error
    else:
        raise AssertionError(f"{folder} can be written to")
for folder in ("/tmp", "/var/lib/agentmesh"):
    open(f"{folder}/new", "w").close()
"""


@pytest.fixture(scope="module")
def mode(tmp_path_factory: pytest.TempPathFactory) -> str:
    """How programs are started here."""
    if jail.possible(tmp_path_factory.mktemp("tried")):
        return "namespace"
    warnings.warn(_NO_NAMESPACES, stacklevel=1)
    return "folder"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lowest layer, unpacked."""
    folder = tmp_path_factory.mktemp("shared")
    unpack_layer("packages.tar", folder)
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, RedisServer]]:
    """What services cannot be without."""
    nats = NatsServer(tmp_path_factory.mktemp("nats"))
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    for each in (nats, redis):
        each.start()
    yield nats, redis
    for each in (nats, redis):
        each.stop()


@contextmanager
def _started(mode: str, folder: Path, program: list[str], environment: dict[str, str]) -> Any:
    """A program in the root file system `folder / "root"`, and what it prints in `log`."""
    (folder / "scratch").mkdir()
    root = folder / "root"
    if mode == "folder":
        environment = {
            name: value.replace("/app", f"{root}/app") if name == "PYTHONPATH" else value
            for name, value in environment.items()
        }
    with (folder / "log").open("w") as log:
        process = jail.start(
            mode,
            root,
            folder / "scratch",
            # The base image's python3 is this machine's.
            [os.path.realpath(sys.executable), *program],
            environment=environment,
            log=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_nothing_but_two_folders_can_be_written_to(mode: str, shared: Path, tmp_path: Path) -> None:
    """As the user of the image, as on Kubernetes with a read-only root file system."""
    if mode == "folder":
        pytest.skip(_NO_NAMESPACES)
    unpack("tool", tmp_path / "root", shared)
    with _started(mode, tmp_path, ["-I", "-S", "-c", _LOOK_AROUND], {}) as process:
        assert process.wait(_SECONDS) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_starts_in_its_image(
    service: str,
    mode: str,
    shared: Path,
    stores: tuple[NatsServer, RedisServer],
    tmp_path: Path,
) -> None:
    """It reads the settings of Kubernetes, serves, and ends with 0 at a SIGTERM."""
    root = tmp_path / "root"
    unpack(service, root, shared)
    settings = root / _SETTINGS.lstrip("/")
    settings.parent.mkdir(parents=True)
    shutil.copyfile(f"mesh/kubernetes/base/settings/{service}.yaml", settings)
    image = target(service)
    nats, redis = stores
    address = f"127.0.0.1:{free_port()}"
    program = [*image.entry[1:], "--config", _SETTINGS if mode == "namespace" else str(settings)]
    data_dir = "/var/lib/agentmesh" if mode == "namespace" else str(tmp_path / "data")
    environment = {
        **image.environment,
        **_FILES_INSTEAD.get(service, {}),
        "AGENTMESH_ADDRESS": address,
        "AGENTMESH_NATS_REPLICAS": "1",
        "AGENTMESH_NATS_URL": nats.url,
        "AGENTMESH_REDIS_URL": redis.url,
        "AGENTMESH_DATA_DIR": data_dir,
    }
    with _started(mode, tmp_path, program, environment) as process:

        async def serves() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            options = [NO_HTTP_PROXY]
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest()
                try:
                    answer = await stub.Check(request, timeout=5, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    raise LookupError(str(error.details())) from error
                return answer.status == health_pb2.HealthCheckResponse.SERVING

        await eventually(serves, _SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0, (tmp_path / "log").read_text()
