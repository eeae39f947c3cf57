"""Services stand still, or are cut off from their callers, with calls on their way."""

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from meshkit.errors import from_status
from meshtest.eventually import eventually
from tests.faults.fault import Action, Fault, in_turn
from tests.faults.fault_mesh import Arrangement, FaultMesh, running
from tests.faults.load import Load, users
from tests.faults.outside import Effect
from tests.faults.question import tenants_of
from tests.faults.verdict import Ended, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# Those that are called in every task.
_CALLED = ("tool", "reasoning", "governor")
# Longer than a claim, and than reasoning waits for the governor.
_STANDS_STILL = (4.0, 4.5)
_CUT_OFF = (0.3, 0.5)
# More than what keeps a connection alive.
_AN_ANSWER_BYTES = 60
# Answers are among so much. The governor is not asked often.
_ANSWERS_BYTES = {"tool": 200, "reasoning": 200, "governor": 0}
_COMES_WITHIN_SECONDS = 60.0
# What says: try again.
_RETRYABLE = {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED"}


@pytest.fixture(scope="module")
def arrangement() -> Arrangement:
    """Those who are called can be cut off from their callers."""
    return Arrangement(called_through_proxy=_CALLED)


async def test_those_who_are_called_stand_still(mesh: FaultMesh) -> None:
    """Calls wait for their answers, none is made twice, and no task does without one."""
    async with users(mesh.address, seed=_SEED, tenants=tenants_of("still")) as load:
        for fault in in_turn(
            _CALLED, Action.FREEZE, seed=_SEED, rounds=_ROUNDS, lasts=_STANDS_STILL
        ):
            await _inflict_at_an_effect(mesh, load, fault)
        await load.has_asked(10)
    ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    assert [each.task.name for each in ended.values() if each.degraded] == []
    # Calls were on their way, else the test has shown nothing. The governor's are nobody's to
    # wait for: models are called without it after a while.
    assert min(_longest(ended, "tool_called"), _longest(ended, "model_called")) > 2


async def test_those_who_are_called_are_cut_off_from_their_callers(mesh: FaultMesh) -> None:
    """What was done and not heard of is not done again: each call is answered or tried again."""
    async with users(mesh.address, seed=_SEED) as load:
        await load.has_asked(10)
        for fault in in_turn(_CALLED, Action.BREAK_OFF, seed=_SEED, rounds=_ROUNDS, lasts=_CUT_OFF):
            await mesh.inflict(fault, partial(_answers_are_lost, mesh, fault.target))
            # No task is hit in two of them.
            await load.settles()
        await load.has_asked(5)
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


class _HalfDone:
    """Of what is done outside while it is held up, every other thing comes to no end."""

    def __init__(self, mesh: FaultMesh) -> None:
        self._mesh: Final = mesh
        self._holds_up = False
        self._begun = 0
        # What of the tool's answers was lost when the first thing was done.
        self._lost_before: int | None = None

    async def on_effect(self, _: Effect) -> None:
        """Waits, perhaps for ever: until its tool gives up."""
        if not self._holds_up:
            return
        self._begun += 1
        if self._begun % 2:
            await asyncio.Event().wait()
        elif self._lost_before is None:
            self._lost_before = self._mesh.swallowed("tool")

    async def hold_up(self) -> None:
        """Returns when one thing is done, which nobody has heard of, and others are not."""
        self._holds_up, self._begun, self._lost_before = True, 0, None
        await eventually(self._is_half_done, _COMES_WITHIN_SECONDS)

    def _is_half_done(self) -> bool:
        if self._lost_before is None:
            return False
        return self._mesh.swallowed("tool") > self._lost_before + _AN_ANSWER_BYTES

    def go_on(self) -> None:
        """What is done from now on is done at once."""
        self._holds_up = False


async def test_effects_that_must_not_happen_twice_are_cut_off(tmp_path: Path) -> None:
    """What was done is told when it is asked for again; a person is asked about what was not."""
    arrangement = Arrangement(called_through_proxy=("tool",), effect="UNSAFE")
    async with running(tmp_path, arrangement) as mesh:
        half_done = _HalfDone(mesh)
        mesh.outside.on_effect = half_done.on_effect
        async with users(mesh.address, seed=_SEED) as load:
            await load.has_asked(10)
            for fault in in_turn(
                ("tool",), Action.BREAK_OFF, seed=_SEED, rounds=_ROUNDS, lasts=_CUT_OFF
            ):
                await mesh.inflict(fault, half_done.hold_up)
                half_done.go_on()
                await load.settles()
            await load.approve_what_is_unknown()
        ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    assert any(event.tool_called.replayed for each in ended.values() for event in each.events)
    assert any("waiting" in each.kinds() for each in ended.values())


async def _inflict_at_an_effect(mesh: FaultMesh, load: Load, fault: Fault) -> None:
    """Has it happen while a tool is at work for somebody."""
    at_work, hurt = asyncio.Event(), asyncio.Event()

    async def on_effect(_: Effect) -> None:
        at_work.set()
        await hurt.wait()

    async def meanwhile() -> None:
        hurt.set()
        await load.has_asked(3)

    mesh.outside.on_effect = on_effect
    async with asyncio.timeout(_COMES_WITHIN_SECONDS):
        await at_work.wait()
    await mesh.inflict(fault, meanwhile)


async def _answers_are_lost(mesh: FaultMesh, target: str) -> None:
    """Returns when a service has answered calls whose callers do not hear of it."""
    enough = _ANSWERS_BYTES[target]
    await eventually(lambda: mesh.swallowed(target) >= enough, _COMES_WITHIN_SECONDS)


def _longest(ended: Mapping[str, Ended], kind: str) -> float:
    """How long the slowest call of a kind took, in seconds."""
    return max(
        getattr(event, kind).duration.ToNanoseconds() / 1e9
        for each in ended.values()
        for event in each.events
        if event.HasField(kind)
    )
