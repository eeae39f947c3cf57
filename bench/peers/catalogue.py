"""The systems that are compared."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench.peers.agentmesh.peer import Agentmesh
from bench.peers.celery.peer import Celery
from bench.peers.dbos.peer import Dbos
from bench.peers.langgraph.peer import LangGraph
from bench.peers.packages import Packages
from bench.peers.peer import Peer
from bench.peers.restate.peer import Restate

# Ours: what the others are compared with.
OURS: Final = ("agentmesh", "agentmesh-sync")


def catalogue(packages: Packages, environ: Mapping[str, str]) -> Sequence[Peer]:
    """All of them, ours first."""
    return (
        Agentmesh("default", environ),
        Agentmesh("always", environ),
        Restate(packages, environ),
        LangGraph(packages, environ),
        Dbos(packages, environ),
        Celery(packages, environ),
    )
