"""How long admissions took at each place on their way, by the logs that are written anyway."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from bench.tasks.latencies import Latencies

_ADMIT: Final = "/agentmesh.governor.v1.CostGovernorService/Admit"
_MILLISECOND: Final = 0.001


class Hops(NamedTuple):
    """Each with all that lies behind it."""

    # In whole milliseconds: from the first byte of a call to the last byte of its answer.
    gateway: Latencies
    # From the beginning of its handler to its end.
    governor: Latencies


def read_hops(logs: Path, begun: float, ended: float) -> Hops:
    """Of the calls between two times, in seconds since 1970; `logs`: the mesh's folder of them."""
    hops = Hops(Latencies(), Latencies())
    with (logs / "access.log").open("rb") as lines:
        for line in lines:
            said = _parsed(line)
            if said.get("rpc") == _ADMIT and begun <= _seconds(said["time"]) <= ended:
                hops.gateway.record(float(said["duration_ms"]) * _MILLISECOND)
    with (logs / "governor.log").open("rb") as lines:
        for line in lines:
            said = _parsed(line)
            if said.get("method") == _ADMIT and begun <= _seconds(said["time"]) <= ended:
                hops.governor.record(float(said["duration_ms"]) * _MILLISECOND)
    return hops


def _parsed(line: bytes) -> Mapping[str, Any]:
    # Others write lines, too, and the last one may not be whole yet.
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return cast(dict[str, Any], said) if isinstance(said, dict) else {}


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).astimezone(UTC).timestamp()
