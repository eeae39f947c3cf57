"""A child process: started, watched, started again when it dies, and ended."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NoReturn

from meshkit.time_limit import within
from tier import child_exec
from tier.backoff import Backoff, RestartPolicy
from tier.events import Phase, Reporter
from tier.failures import StartFailed
from tier.nursery import Born, Nursery
from tier.process_end import ended, obituary, told
from tier.secret_variables import secrets
from tier.state import ProcessRecord

_PROBE_FIRST_SECONDS: Final = 0.01
_PROBE_LONGEST_SECONDS: Final = 0.1
_TOLD_BYTES: Final = 4096
_SENTENCE_CHARACTERS: Final = 160
# How often somebody who waits is told that this goes on.
_TELL_SECONDS: Final = 10.0
# Who says so many times in a row that it is sick does not get well by itself.
_LOOK_SECONDS: Final = 3.0
_LOOKS: Final = 2


@dataclass(frozen=True)
class ChildSpec:
    """How a child is run."""

    # As in events, records and log files.
    name: str
    # For people.
    title: str
    command: Sequence[str | Path]
    working_dir: Path
    log: Path
    ports: tuple[int, ...]
    # Its version once it is ready, or None while it is not. May raise OSError.
    probe: Callable[[], Awaitable[str | None]]
    # The same as the command, for a nursery: a Python module, and what it is told.
    program: Sequence[str] = ()
    # Added to this process's environment, and left out of it. Secrets are left out always,
    # but for those that are given.
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    without: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    # Why it is of no use, though it lives, until it is started again; empty where it is well.
    # Asked now and then. May raise OSError.
    sick: Callable[[], Awaitable[str]] | None = None
    # What takes longer is started again. A machine with much else to do takes its time, and the
    # first start counts from before this process has imported what it needs.
    ready_within_seconds: float = 60.0
    stop_within_seconds: float = 10.0
    # At which it ends in order.
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One child process over its lives. It dies with this process, however that ends."""

    def __init__(
        self,
        spec: ChildSpec,
        report: Reporter,
        policy: RestartPolicy,
        nursery: Nursery | None = None,
    ) -> None:
        """`nursery`: starts what it can; everything else is started anew."""
        self._spec: Final = spec
        self._nursery: Final = nursery
        self._report: Final = report
        self._backoff: Final = Backoff(policy)
        self._process: subprocess.Popen[bytes] | Born | None = None
        self._spawned = 0.0
        # Where the log of the present life begins.
        self._log_start = 0
        self._version = ""
        # Why it was ended in the present life before it was ready.
        self._sick_from_the_start = ""
        self._restarts = 0
        self._last_death = ""

    @property
    def name(self) -> str:
        """What it is called in events."""
        return self._spec.name

    @property
    def record(self) -> ProcessRecord:
        """The child as it is now."""
        pid = self._process.pid if self._process else 0
        return ProcessRecord(
            self._spec.name,
            pid,
            self._version,
            self._spec.ports,
            self._spec.log,
            self._restarts,
            self._last_death,
        )

    def spawn(self) -> None:
        """Starts the process and does not wait. Only the main thread may: the kernel ends
        a child with the thread that started it.
        """
        spec = self._spec
        without = spec.without | (secrets(os.environ) - spec.given)
        environment = {
            **{k: v for k, v in os.environ.items() if k not in without},
            **spec.environment,
        }
        with spec.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = self._born(environment, log) or _executed(spec, environment, log)
        self._spawned = time.monotonic()
        self._sick_from_the_start = ""
        self._report(spec.name, Phase.STARTING, f"Starting {spec.title}")

    async def ready(self) -> None:
        """Returns when the process answers.

        Raises:
            StartFailed: It ended, is sick or takes too long.
        """
        spec = self._spec
        pause = _PROBE_FIRST_SECONDS
        give_up = self._spawned + spec.ready_within_seconds
        tell = self._spawned + _TELL_SECONDS
        look = self._spawned + _LOOK_SECONDS
        while (version := await self._probe()) is None:
            if self._require().poll() is not None:
                raise self._dead()
            now = time.monotonic()
            if now > give_up:
                raise StartFailed(
                    spec.title, f"no answer within {spec.ready_within_seconds:g} s", spec.log
                )
            if now > look:
                self._sick_from_the_start = await self._sickness()
                if self._sick_from_the_start:
                    raise StartFailed(spec.title, self._sick_from_the_start, spec.log)
                look = now + _LOOK_SECONDS
            if now > tell:
                waited = f"no answer for {now - self._spawned:.0f} s"
                self._report(spec.name, Phase.WAITING, f"Still waiting for {spec.title}: {waited}")
                tell = now + _TELL_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _PROBE_LONGEST_SECONDS)
        self._version = version
        where = " and ".join(f"127.0.0.1:{port}" for port in spec.ports)
        self._report(
            spec.name,
            Phase.READY,
            f"{spec.title} {version} is ready" + (f" on {where}" if where else ""),
        )

    async def must_live(self) -> NoReturn:
        """Raises StartFailed when the process ends; nothing is started again."""
        await ended(self._require())
        raise self._dead()

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Starts the process again when it dies, StartFailed where that does not help; when it
        is sick, as often as need be.

        `on_change` is called at each death, and when it is there again.
        """
        spec = self._spec
        while True:
            sick, why = await self._end_of_life()
            self._report(spec.name, Phase.DIED, f"{spec.title} died ({why})")
            self._last_death = self._obituary(why)
            on_change()
            delay = 0.0 if sick else self._backoff.after(time.monotonic() - self._spawned)
            if delay is None:
                self._report(spec.name, Phase.FAILED, f"{spec.title} died too often and stays down")
                raise StartFailed(spec.title, f"it died too often, last {why}", spec.log)
            await asyncio.sleep(delay)
            self._report(spec.name, Phase.RESTARTING, f"Starting {spec.title} again")
            self._restarts += 1
            self.spawn()
            try:
                await self.ready()
            except StartFailed:
                await self._end(signal.SIGKILL)
            on_change()

    async def stop(self) -> None:
        """Ends the process, by force where it takes too long."""
        if self._process is None:
            return
        running = self._process.poll() is None
        await self._end(self._spec.stop_signal)
        if running:
            self._report(self.name, Phase.STOPPED, f"{self._spec.title} has ended")
        self._process = None

    async def _end_of_life(self) -> tuple[bool, str]:
        """Returns when the process has ended: whether it was ended for being sick, and why."""
        process = self._require()
        end = asyncio.ensure_future(ended(process))
        looks = 0
        try:
            while not end.done():
                await asyncio.wait([end], timeout=_LOOK_SECONDS if self._spec.sick else None)
                why = "" if end.done() else await self._sickness()
                looks = looks + 1 if why else 0
                if looks == _LOOKS:
                    await self._end(self._spec.stop_signal)
                    return True, why
            why = self._sick_from_the_start
            return bool(why), why or told(end.result())
        finally:
            end.cancel()

    async def _sickness(self) -> str:
        if self._spec.sick is None:
            return ""
        try:
            return await self._spec.sick()
        except OSError:
            # Slow to answer is not sick: the machine may be busy.
            return ""

    async def _end(self, how: signal.Signals) -> None:
        process = self._require()
        if process.poll() is None:
            process.send_signal(how)
            try:
                with within(self._spec.stop_within_seconds):
                    await ended(process)
            except TimeoutError:
                process.kill()
                await ended(process)

    def _born(self, environment: Mapping[str, str], log: IO[bytes]) -> Born | None:
        spec = self._spec
        if self._nursery is None or not spec.program:
            return None
        return self._nursery.bear(
            spec.program, working_dir=spec.working_dir, environment=environment, log=log
        )

    def _require(self) -> subprocess.Popen[bytes] | Born:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    async def _probe(self) -> str | None:
        try:
            return await self._spec.probe()
        except OSError:
            return None

    def _dead(self) -> StartFailed:
        return StartFailed(self._spec.title, self._last_words(), self._spec.log)

    def _obituary(self, why: str) -> str:
        """Why and when it died; who ended by itself may have said why."""
        line = "" if (self._require().returncode or 0) < 0 else _sentence(self._last_line())
        return obituary(why) + (f": {line}" if line else "")

    def _last_words(self) -> str:
        """What the process said last in this life, in a line."""
        line = self._last_line()
        return f"it ended ({told(self._require().wait())})" + (
            f" after saying: {line}" if line else " and said nothing"
        )

    def _last_line(self) -> str:
        with self._spec.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TOLD_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _executed(
    spec: ChildSpec, environment: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", child_exec.__file__, str(os.getpid())),
            *(str(each) for each in spec.command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=spec.working_dir,
        env=environment,
        # What it writes is its owner's alone, also in a folder that others may enter.
        umask=child_exec.UMASK,
        # A Ctrl-C in the terminal is for this process, which then ends the child in order.
        start_new_session=True,
    )


def _sentence(line: str) -> str:
    """What a line of a log says, short enough for a table."""
    try:
        values = json.loads(line)
        line = str(values.get("error") or values.get("event") or line)
    except (ValueError, AttributeError):
        pass
    return line[:_SENTENCE_CHARACTERS]
