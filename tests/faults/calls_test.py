"""Services stand still, or are cut off from their callers, with calls on their way."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from meshkit.errors import from_status
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import Arrangement, running
from tests.faults.load import users
from tests.faults.outside import Effect
from tests.faults.verdict import Ended, after_the_fault

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# Those that are called in every task.
_CALLED = ("tool", "reasoning", "governor")
# Longer than a claim, and than reasoning waits for the governor.
_STANDS_STILL = (4.0, 4.5)
# Enough for some calls to come and to be lost.
_CUT_OFF = (0.5, 0.8)
# Some effects have happened by the end of that, and some have not.
_EFFECT_SECONDS = 0.3
# Longer than an attempt waits after one that failed, so that no task is hit in both.
_NEXT = (2.0, 2.5)
# What says: try again.
_RETRYABLE = {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED"}


async def test_those_who_are_called_stand_still(tmp_path: Path) -> None:
    """Calls wait for their answers, none is made twice, and no task does without one."""
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED) as load:
            for fault in in_turn(
                _CALLED, Action.FREEZE, seed=_SEED, rounds=_ROUNDS, lasts=_STANDS_STILL
            ):
                await mesh.inflict(fault)
            await load.has_asked(10)
        ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    assert [each.task.name for each in ended.values() if each.degraded] == []
    # Calls were on their way, else the test has shown nothing. The governor's are nobody's to
    # wait for: models are called without it after a while.
    assert min(_longest(ended, "tool_called"), _longest(ended, "model_called")) > 3


async def test_those_who_are_called_are_cut_off_from_their_callers(tmp_path: Path) -> None:
    """What was done and not heard of is not done again: each call is answered or tried again."""
    async with running(tmp_path, Arrangement(called_through_proxy=_CALLED)) as mesh:
        async with users(mesh.address, seed=_SEED) as load:
            await load.has_asked(20)
            for fault in in_turn(
                *(_CALLED, Action.BREAK_OFF),
                seed=_SEED,
                rounds=_ROUNDS,
                after=_NEXT,
                lasts=_CUT_OFF,
            ):
                await mesh.inflict(fault)
            await load.has_asked(10)
        ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    retried = [
        event.retried.error
        for each in ended.values()
        for event in each.events
        if event.HasField("retried")
    ]
    assert {from_status(each).reason for each in retried} <= _RETRYABLE, retried
    # Calls were on their way: a model's is made again, and a tool is done without.
    assert retried
    assert any(note.code == "TOOL_SKIPPED" for each in ended.values() for note in each.task.notes)


async def test_effects_that_must_not_happen_twice_are_cut_off(tmp_path: Path) -> None:
    """What was done is told when it is asked for again; a person is asked about what was not."""

    async def slowly(_: Effect) -> None:
        await asyncio.sleep(_EFFECT_SECONDS)

    arrangement = Arrangement(called_through_proxy=("tool",), effect="UNSAFE")
    async with running(tmp_path, arrangement) as mesh:
        mesh.outside.on_effect = slowly
        async with users(mesh.address, seed=_SEED) as load:
            await load.has_asked(20)
            for fault in in_turn(
                *(("tool",), Action.BREAK_OFF),
                seed=_SEED,
                rounds=2 * _ROUNDS,
                after=_NEXT,
                lasts=_CUT_OFF,
            ):
                await mesh.inflict(fault)
            await load.approve_what_is_unknown()
        ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    assert any(event.tool_called.replayed for each in ended.values() for event in each.events)
    assert any("waiting" in each.kinds() for each in ended.values())


def _longest(ended: Mapping[str, Ended], kind: str) -> float:
    """How long the slowest call of a kind took, in seconds."""
    return max(
        getattr(event, kind).duration.ToNanoseconds() / 1e9
        for each in ended.values()
        for event in each.events
        if event.HasField(kind)
    )
