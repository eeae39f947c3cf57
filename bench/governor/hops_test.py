"""What the logs of a mesh say of where admissions were."""

import json
from datetime import UTC, datetime
from pathlib import Path

from bench.governor.hops import read_hops

_ADMIT = "/agentmesh.governor.v1.CostGovernorService/Admit"
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def _write(path: Path, *lines: object) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), "utf-8")


def test_only_admissions_of_the_time_that_is_measured_count(tmp_path: Path) -> None:
    """Not other calls, not the warm-up, and not lines that are none or not whole yet."""
    inside, before = "2026-01-01T00:00:05.000Z", "2025-12-31T23:59:59.999Z"
    _write(
        tmp_path / "access.log",
        {"time": inside, "rpc": _ADMIT, "duration_ms": "4"},
        {"time": before, "rpc": _ADMIT, "duration_ms": "50"},
        {"time": inside, "rpc": _ADMIT.replace("Admit", "Settle"), "duration_ms": "60"},
        '{"time": "2026',
    )
    _write(
        tmp_path / "governor.log",
        "a line of something else",
        {"time": inside, "event": "rpc", "method": _ADMIT, "duration_ms": 1.5},
        {"time": inside.replace("Z", "+00:00"), "method": _ADMIT, "duration_ms": 2.5},
        {"time": before, "event": "rpc", "method": _ADMIT, "duration_ms": 70},
        {"time": inside, "event": "started"},
        "7",
    )
    gateway, governor = read_hops(tmp_path, _BEGUN, _BEGUN + 10)
    assert (gateway.count, round(gateway.max_ms, 2)) == (1, 4.0)
    assert governor.count == 2
    assert [round(governor.percentile_ms(each), 2) for each in (50, 100)] == [1.5, 2.5]
