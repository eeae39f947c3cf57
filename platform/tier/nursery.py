"""Starts Python programs without importing anew what they need: in milliseconds, not seconds.

A process that has imported everything forks itself for each of them. What they do not change
they share, and one that died is back before its callers give up.
"""

import array
import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from meshkit.time_limit import within
from tier import child_exec, nursery_program
from tier.events import Phase, Reporter
from tier.failures import StartFailed
from tier.process_end import ended, obituary, told
from tier.secret_variables import secrets
from tier.state import ProcessRecord
from tier.version import VERSION

NURSERY: Final = "nursery"
_PR_SET_CHILD_SUBREAPER: Final = 36
# It takes seconds of a processor, of which there may be little.
_READY_SECONDS: Final = 180.0
# A process of some 100 MB is forked in milliseconds.
_FORK_SECONDS: Final = 10.0
# Before it is started again.
_PAUSE_SECONDS: Final = 0.5


class Born:
    """A process of this one that a nursery has made; as subprocess.Popen, where it matters."""

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """The exit code, once there is one."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends it unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it by force."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks. Started and asked from the main thread alone.

    From its start on, this process adopts orphans below it.
    """

    def __init__(self, modules: Sequence[str], log: Path) -> None:
        """`modules`: what programs will import."""
        self._modules: Final = modules
        self._log: Final = log
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._restarts = 0
        self._last_death = ""

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """The process; none before its start and after its end."""
        if self._process is None:
            return ()
        pid = self._process.pid
        died = (self._restarts, self._last_death)
        return (ProcessRecord(NURSERY, pid, VERSION, (), self._log, *died),)

    def start(self) -> None:
        """Begins to import, and does not wait."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hidden = secrets(os.environ)
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", child_exec.__file__, str(os.getpid())),
                    *(sys.executable, "-P", "-m", "tier.nursery_program"),
                    *(str(theirs.fileno()), str(os.getpid()), *self._modules),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                env={
                    **{k: v for k, v in os.environ.items() if k not in hidden},
                    "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
                },
                # What is born keeps it.
                umask=child_exec.UMASK,
                start_new_session=True,
            )
        ours.setblocking(False)
        self._socket = ours

    async def ready(self) -> None:
        """Returns when it has imported everything. Raises StartFailed."""
        loop = asyncio.get_running_loop()
        try:
            with within(_READY_SECONDS):
                answer = await loop.sock_recv(self._require(), nursery_program.MOST_BYTES)
        except TimeoutError:
            answer = b""
        if answer != nursery_program.READY:
            raise StartFailed("the nursery of services", "it does not begin", self._log)
        self._is_ready = True

    async def watch(self, report: Reporter, on_change: Callable[[], None]) -> None:
        """Starts it again when it dies; meanwhile programs are started as others are."""
        while True:
            why = told(await ended(self._process_started()))
            self._is_ready = False
            self._last_death = obituary(why)
            report(NURSERY, Phase.DIED, f"The nursery of services died ({why})")
            on_change()
            await asyncio.sleep(_PAUSE_SECONDS)
            self.stop()
            self._restarts += 1
            self.start()
            try:
                await self.ready()
            except StartFailed:
                continue
            report(NURSERY, Phase.READY, "The nursery of services is ready again")
            on_change()

    def bear(
        self,
        program: Sequence[str],
        *,
        working_dir: Path,
        environment: Mapping[str, str],
        log: IO[bytes],
    ) -> Born | None:
        """Starts `main` of the first of `program`, a module, with the others as its arguments.

        Returns None where the nursery is not ready or has died: the program is then to be
        started as others are.
        """
        if not self._is_ready:
            return None
        request = {
            "program": list(program),
            "working_dir": str(working_dir),
            "environment": dict(environment),
        }
        asked = self._require()
        asked.settimeout(_FORK_SECONDS)
        descriptors = array.array("i", [log.fileno()])
        try:
            asked.sendmsg(
                [json.dumps(request).encode()],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)],
            )
            pid = asked.recv(nursery_program.MOST_BYTES)
        except OSError:
            pid = b""
        if not pid:
            self._is_ready = False
            return None
        return Born(int(pid))

    def stop(self) -> None:
        """Ends it; what was born lives on."""
        self._is_ready = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            # It has nothing to finish, and may still import.
            self._process.kill()
            self._process.wait()
            self._process = None

    def _process_started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the nursery was not started")
        return self._process

    def _require(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("the nursery was not started")
        return self._socket
