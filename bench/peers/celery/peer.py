"""Celery: worker processes, a client, and Redis between them."""

import contextlib
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
# One for each core of a small machine. A process that works by itself costs a task less than
# one that hands its work to others.
_WORKERS: Final = 2


class Celery:
    """A chain of three tasks, each acknowledged when it is done and its result is kept."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "celery"
        self.title: Final = "Celery"
        # A tenth slower otherwise.
        self.takes_turns: Final = False
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """Celery from pip; Redis is the mesh's own."""
        self._python()
        redis = redis_server.version(redis_server.redis_program(self._environ))
        return (
            f"celery {locked_version(_LOCK, 'celery')}, a chain of three tasks, {_WORKERS} workers "
            "of one process each (pool solo), late acknowledgement, results kept; "
            f"{redis}, {redis_server.SETTINGS}"
        )

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts Redis and the workers, and measures."""
        program = redis_server.redis_program(self._environ)
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(
                redis_server.running(program, folder, own_environment(self._environ))
            )
            environment = peer_environment(self._environ, REFERENCE_REDIS=redis.url)
            workers = {
                f"worker {number}": stack.enter_context(
                    self._worker(number, folder / f"worker-{number}.log", environment)
                )
                for number in range(1, _WORKERS + 1)
            }
            return measure(
                self._python(),
                _HERE / "driver.py",
                load,
                {},
                parts={"redis": redis.pid, **workers},
                driver_part="client",
                environment=environment,
                log=folder / "driver.log",
            )

    def _worker(
        self, number: int, log: Path, environment: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[int]:
        command = [self._python(), "-m", "celery", "--app=bench.peers.celery.reference_app"]
        command += ["worker", "--pool=solo", f"--hostname=worker{number}@%h", "--loglevel=INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return child(
            "Celery's worker",
            with_parent(command),
            log=log,
            environment=environment,
            ready=lambda: b" ready." in log.read_bytes(),
        )

    def _python(self) -> Path:
        return self._packages.python(self.name, _LOCK)
