"""A mesh in the background: started, and ended again, by another process."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tier.data_dir import DataDir
from tier.events import Event, Phase, Progress, Reporter
from tier.failures import MeshStartError, StartFailed, from_kind
from tier.options import MeshOptions
from tier.python_child import python_environment
from tier.state import MeshState, read_state, start_ticks

# Calls in flight get ten seconds, and every child ten more: executors, services, governors, Envoys
# and stores end one after the other.
_STOP_WITHIN_SECONDS: Final = 100.0


def start_detached(options: MeshOptions, progress: Progress) -> MeshState:
    """Starts a mesh that outlives this process; returns when it is ready.

    Raises what `start` raised there.
    """
    report = Reporter(progress)
    data_dir = DataDir(options.data_dir)
    data_dir.prepare()
    log = data_dir.rotate("mesh")
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as told:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "tier.daemon"),
                    *("--told", str(writing), "--options", json.dumps(options.to_json())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **python_environment()},
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        with _ended_if_abandoned(process, report):
            for line in told:
                outcome = _heard(json.loads(line), progress)
                if outcome:
                    return outcome
            raise StartFailed("the mesh", f"its process ended ({process.wait()})", log)


def stop_detached(data_dir: Path, progress: Progress) -> bool:
    """Ends the mesh that runs on `data_dir` in order, or else by force; False where none runs."""
    state = read_state(data_dir)
    if state is None:
        return False
    report = Reporter(progress)
    report("mesh", Phase.STOPPING, f"Stopping the mesh (pid {state.pid})")
    try:
        descriptor = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return False
    try:
        if start_ticks(state.pid) == state.process_start_ticks:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not _ended(descriptor, _STOP_WITHIN_SECONDS):
                # Its children end with it.
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _ended(descriptor, _STOP_WITHIN_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
    read_state(data_dir)  # removes what a mesh that was killed left behind
    report("mesh", Phase.STOPPED, "The mesh has stopped")
    return True


def _heard(message: dict[str, Any], progress: Progress) -> MeshState | None:
    """The state that the daemon tells at the end; raises the failure that it tells."""
    if "event" in message:
        # Who reads the progress may go at any time, as `head` does, and a terminal that is
        # closed: that is no reason to end the mesh.
        with suppress(OSError):
            progress(Event.from_json(message["event"]))
    elif "failure" in message:
        raise from_kind(message["failure"]["kind"], message["failure"]["text"])
    else:
        return MeshState.from_json(message["state"])
    return None


@contextmanager
def _ended_if_abandoned(
    process: subprocess.Popen[bytes], report: Reporter
) -> Generator[None, None, None]:
    """Ends a daemon that nobody waits for any more, such as after Ctrl-C."""
    try:
        yield
    except MeshStartError:
        process.wait()
        raise
    except BaseException:
        process.terminate()
        with suppress(OSError):
            report("mesh", Phase.STOPPING, "Stopping the mesh")
        process.wait()
        raise


def _ended(descriptor: int, within_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within_seconds * 1000))
