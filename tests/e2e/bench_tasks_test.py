"""`agentmesh bench tasks` measures a real mesh, and proves that the mesh kept its promises."""

import json
from typing import Any, Final

from click.testing import CliRunner

from cli.app import app

_SHORT: Final = ("--tier", "prototype", "--warm-up", "1", "--json")
# Of rounds: where the machine is busy, none of a closed loop's tasks may end in the shorter.
_SECONDS: Final = (2, 20)


def _bench(*arguments: str, seconds: int = _SECONDS[0]) -> dict[str, Any]:
    given = ["bench", "tasks", *_SHORT, "--seconds", str(seconds), *arguments]
    result = CliRunner().invoke(app, given, prog_name="agentmesh")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _bench_until_each_round_has_tasks(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for seconds in _SECONDS:
        found = _bench(*arguments, seconds=seconds)
        if all(each["tasks"] and each["p50_ms"] for each in found["rounds"]):
            break
    return found


def test_a_closed_loop_has_all_figures_and_a_clean_audit() -> None:
    """Every task that was submitted has succeeded, and its cost is known by process."""
    found = _bench_until_each_round_has_tasks("--in-flight", "4", "--rounds", "2")
    assert found["title"] == "closed loop, 4 in flight"
    assert (found["tier"], found["executors"], found["client"]) == ("prototype", 1, "run")
    least, most = found["tasks_per_minute_range"]
    assert least <= found["tasks_per_minute"] <= most
    assert most > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    # The kernel counts in ticks of 10 ms, of which the client may have had none.
    assert found["cpu_ms_per_task"] >= found["cpu_ms_per_task_without_client"] > 0
    assert [each["name"] for each in found["rounds"]] == ["round 1", "round 2"]
    for each in found["rounds"]:
        assert set(each["cpu_ms_by_process"]) == {"services", "nats", "redis", "gateway", "client"}
        assert each["data_bytes_per_task"] > 0
    assert set(found["rss_mb"]) == {"services", "nats", "redis", "gateway", "client"}
    assert all(size > 0 for size in found["rss_mb"].values())
    assert found["submitted"] == found["accepted"] > 0
    assert (found["errors"], found["deaths"]) == ({}, [])
    assert (found["lost"], found["doubled"], found["unproven"]) == (0, 0, 0)
    assert found["audit"]["clean"] is True
    assert found["audit"]["tasks"] == {"SUCCEEDED": found["submitted"]}
    assert sum(each["completed"] for each in found["by_second"]) == found["submitted"]
    assert found["good"] is True


def test_an_open_loop_submits_what_arrives() -> None:
    """At 300 a minute for three seconds: fifteen tasks, one after the other, and no more."""
    found = _bench("--rate", "300", "--arrivals", "constant", "--rounds", "1", "--client", "batch")
    assert found["submitted"] == found["accepted"] == 15
    (only,) = found["rounds"]
    assert 0 < only["p50_ms"] <= only["max_ms"]
    assert found["audit"]["tasks"] == {"SUCCEEDED": 15}
    assert found["good"] is True
