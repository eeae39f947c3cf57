"""Celery: worker processes, a client, and Redis between them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.peers import redis_server
from bench.peers.child import child, with_parent
from bench.peers.closed_loop import Load
from bench.peers.measure import measure, peer_environment
from bench.peers.packages import Packages, locked_version, own_environment
from bench.peers.peer import Figures

_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "requirements.lock.txt"
_WORKERS: Final = 2


class Celery:
    """A chain of three tasks, each acknowledged when it is done and its result is kept."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "celery"
        self.title: Final = "Celery"
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """Celery from pip; Redis is the mesh's own."""
        self._python()
        redis = redis_server.version(redis_server.redis_program(self._environ))
        return (
            f"celery {locked_version(_LOCK, 'celery')}, a chain of three tasks, {_WORKERS} worker "
            f"processes, late acknowledgement, results kept; {redis}, {redis_server.SETTINGS}"
        )

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts Redis and the workers, and measures."""
        program = redis_server.redis_program(self._environ)
        log = folder / "worker.log"
        working = [self._python(), "-m", "celery", "--app=bench.peers.celery.reference_app"]
        working += ["worker", f"--concurrency={_WORKERS}", "--loglevel=INFO"]
        working += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with redis_server.running(program, folder, own_environment(self._environ)) as redis:
            environment = peer_environment(self._environ, REFERENCE_REDIS=redis.url)
            with child(
                "Celery's worker",
                with_parent(working),
                log=log,
                environment=environment,
                ready=lambda: b" ready." in log.read_bytes(),
            ) as worker:
                return measure(
                    self._python(),
                    _HERE / "driver.py",
                    load,
                    {},
                    parts={"redis": redis.pid, "workers": worker},
                    driver_part="client",
                    environment=environment,
                    log=folder / "driver.log",
                )

    def _python(self) -> Path:
        return self._packages.python(self.name, _LOCK)
