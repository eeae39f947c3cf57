"""What is told of a mesh that was measured."""

from bench.growth.grid import Cell
from bench.growth.run import Grown
from bench.tasks.report import Proof, Report


def test_a_backlog_has_the_rate_at_which_it_was_handed_out() -> None:
    """With what that cost, and with the short queue that it is compared with."""
    cell = Cell(executors=1, replicas=1, partitions=1, backlog=5_000)
    backlog = {"short": {"queued": 1_000}, "long": {"queued": 5_000}}
    report = Report(
        plan=cell.plan(seconds=1, sync_always=None),
        rounds=(),
        submitted=5_000,
        accepted=5_000,
        errors={},
        deaths=(),
        proof=Proof(clean=True, tasks={"QUEUED": 5_000}, findings=(), seconds=0.1),
        rss_bytes={},
        extra={"tasks_per_minute": 29_000.0, "cpu_ms_per_task": 1.6, "backlog": backlog},
    )
    found = Grown(cell, report).to_json()
    assert (found["tasks_per_minute"], found["cpu_ms_per_task"]) == (29_000.0, 1.6)
    assert found["compared"] == backlog
    assert found["good"] is True
