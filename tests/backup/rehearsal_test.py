"""The rehearsal: a mesh at work is saved, its directory wiped, and restored."""

import asyncio
import shutil
from pathlib import Path

from agentmesh.coordinator.v1 import task_pb2
from backup import api
from meshkit.clock import SystemClock
from tests.backup.lived_in_mesh import LivedInMesh

_BEFORE = 12
_UNKNOWN = 900_404
_LARGE = 900_001


def _ignore(_step: api.Step) -> None:
    pass


async def test_a_mesh_at_work_is_saved_and_goes_on_after_a_restore(tmp_path: Path) -> None:
    """No accepted task is lost, what was done is not done again, and the money is the same."""
    mesh = LivedInMesh(tmp_path)
    async with mesh.running() as life:
        await life.add_document()
        waiting = await life.submit(_UNKNOWN, "What is 1 * 404?")
        large = await life.submit(_LARGE, f"What is 2 * 3? {'Think. ' * 12_000}")
        await life.reaches(waiting, task_pb2.TASK_STATE_WAITING)
        ended = await life.work(0, iter([False] * (_BEFORE // 4) + [True]).__next__)
        await life.reaches(large, task_pb2.TASK_STATE_SUCCEEDED)
        stop = asyncio.Event()
        work = asyncio.create_task(life.work(1_000, stop.is_set))
        # Else nothing would be under way.
        under_way = await life.submit(999)
        saved = await api.save(mesh.data_dir, tmp_path, clock=SystemClock(), progress=_ignore)
        stop.set()
        later = await work
        charged_before = await life.charged()
    done_before = dict(mesh.effects.counts)
    assert saved.path.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(mesh.data_dir)

    restored = await api.restore(saved.path, mesh.data_dir, progress=_ignore)

    assert restored.lost_documents == []
    async with mesh.running() as life:
        for name in (*ended.values(), large):
            assert await life.state(name) == task_pb2.TASK_STATE_SUCCEEDED
        await life.ends(under_way)
        assert await life.state(waiting) == task_pb2.TASK_STATE_WAITING
        await life.approve(waiting)
        await life.reaches(waiting, task_pb2.TASK_STATE_SUCCEEDED)
        # A client that tries again what it is not sure of gets the same task, old or new.
        for number, name in {**ended, **later}.items():
            assert await life.submit(number) == name
        for name in later.values():
            await life.ends(name)
        assert any("Vardal" in each for each in await life.found("lighthouse"))
        report = await life.audit(mesh.data_dir)
        charged, spent = await life.charged(), await life.spent_micros()
    assert report.findings == ()
    assert report.tasks == {"SUCCEEDED": len(ended) + len(later) + 3}
    # Of tasks that had ended nothing is done again, and nothing charged.
    for number, name in ended.items():
        expression = f"{number} * 7"
        assert mesh.effects.counts[expression] == done_before[expression] == 1
        its = f"{name.rpartition('/')[2]}/"
        assert {key: cost for key, cost in charged.items() if key.startswith(its)} == {
            key: cost for key, cost in charged_before.items() if key.startswith(its)
        }
    # Log, journal, ledger and counters say the same; the audit has compared the first three.
    assert spent == sum(charged.values()) == report.counts["charged_micros"] > 0
    assert report.counts["ledger_charges"] == report.counts["charges"]
