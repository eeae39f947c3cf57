"""Measures systems in turn, round by round, so that what else the machine does hits all alike."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers.closed_loop import Load
from bench.peers.peer import Figures, Peer, PeerUnavailable
from tier.scheduling import turns
from tier.wakefulness import awake


@dataclass(slots=True)
class Outcome:
    """What became of one system."""

    name: str
    title: str
    # How it was set; empty where it could not be installed.
    setting: str = ""
    figures: list[Figures] = field(default_factory=list[Figures])
    # Why it was measured no further; empty where all went well.
    failure: str = ""


def measure_in_turn(
    peers: Sequence[Peer], load: Load, rounds: int, progress: Callable[[str], None]
) -> list[Outcome]:
    """Installs the systems, then measures each of them once a round.

    A round begins with another system each time. A system that fails is left out from then
    on; the others go on.
    """
    outcomes = {each.name: Outcome(each.name, each.title) for each in peers}
    for peer in peers:
        outcome = outcomes[peer.name]
        try:
            outcome.setting = peer.install()
        except PeerUnavailable as error:
            outcome.failure = str(error)
            progress(f"{peer.title}: {error}")
    for number in range(rounds):
        first = number % len(peers)
        for peer in [*peers[first:], *peers[:first]]:
            outcome = outcomes[peer.name]
            if outcome.failure:
                continue
            progress(f"Round {number + 1} of {rounds}: {peer.title}")
            try:
                figures = _one_round(peer, load)
            except PeerUnavailable as error:
                outcome.failure = str(error)
                progress(f"{peer.title}: {error}")
                continue
            outcome.figures.append(figures)
            progress(
                f"{peer.title}: {figures.tasks_per_minute:,.0f} tasks a minute, "
                f"{figures.cpu_ms_per_task:.2f} ms of CPU a task, p99 {figures.p99_ms:,.0f} ms"
            )
    return list(outcomes.values())


def _one_round(peer: Peer, load: Load) -> Figures:
    with (
        # As staging does while it is busy.
        awake(),
        turns() if peer.takes_turns else nullcontext(),
        # Its path is kept short: a server's socket may lie in it.
        tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder,
    ):
        return peer.run(load, Path(folder))
