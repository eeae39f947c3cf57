"""What `agentmesh bench peers` runs and prints."""

import contextlib
import os
import signal
from collections.abc import Generator, Sequence
from types import FrameType
from typing import Final

from bench.peers.catalogue import OURS, catalogue
from bench.peers.closed_loop import Load
from bench.peers.comparison import ratios, summary
from bench.peers.packages import Packages, cache_folder
from bench.peers.rounds import measure_in_turn
from cli import bench_peers_view, servers
from cli.invocation import Invocation
from cli.problem import Problem

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def bench_peers(
    invocation: Invocation,
    names: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
    in_flight: int,
) -> bool:
    """Measures the systems named, prints the comparison, and answers whether all were measured."""
    terminal = invocation.terminal
    servers.provide(os.environ)
    packages = Packages(cache_folder(os.environ), os.environ, terminal.progress)
    peers = [each for each in catalogue(packages, os.environ) if each.name in names]
    if not peers:
        raise Problem("Nothing is left to measure.", "Say less with --skip.", exit_code=2)
    load = Load(in_flight, warm_up_seconds, seconds)
    with _ended_in_order():
        outcomes = measure_in_turn(peers, load, rounds, terminal.progress)
    measured = [summary(each) for each in outcomes if each.figures]
    ours = [each for each in measured if each.name in OURS]
    compared = ratios(ours, [each for each in measured if each.name not in OURS])
    if terminal.as_json:
        terminal.document(bench_peers_view.document(load, outcomes, measured, compared))
    else:
        bench_peers_view.show(terminal, load, outcomes, measured, compared)
    return not any(each.failure for each in outcomes)


@contextlib.contextmanager
def _ended_in_order() -> Generator[None, None, None]:
    """Has SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that what was started ends."""

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Problem(f"Ended by {name}.", exit_code=128 + number)

    before = {each: signal.signal(each, end) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
