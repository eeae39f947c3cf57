"""Measures what it costs to pass a call on to a model, ours beside others."""

import os
from collections.abc import Callable, Mapping, Sequence

from bench.gateway.agentmesh_system import Agentmesh
from bench.gateway.litellm.system import LiteLlm
from bench.gateway.report import Report, report
from bench.gateway.rounds import Load, measure_in_turn
from bench.gateway.system import Direct, System
from bench.peers.packages import Packages, cache_folder


def systems(environ: Mapping[str, str], tell: Callable[[str], None]) -> Sequence[System]:
    """All of them, the one first that they are compared with."""
    packages = Packages(cache_folder(environ), environ, tell)
    return (Direct(), Agentmesh(), Agentmesh(streamed=True), LiteLlm(packages, environ))


async def run(names: Sequence[str], load: Load, rounds: int, tell: Callable[[str], None]) -> Report:
    """Measures the systems named in turn, so many times each."""
    chosen = [each for each in systems(os.environ, tell) if each.name in names]
    return report(load, await measure_in_turn(chosen, load, rounds, tell))
