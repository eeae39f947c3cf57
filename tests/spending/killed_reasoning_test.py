"""Reasoning is killed at any moment: what its calls cost is charged, and charged once."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from meshtest.eventually import eventually
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import running
from tests.faults.load import users
from tests.faults.verdict import EXPECTED, Ended, after_the_fault
from tests.spending.charged import charged_is
from tests.spending.journal import charges

_ROUNDS: Final = int(os.environ.get("FAULTS_ROUNDS", "2"))
_SEED: Final = int(os.environ.get("FAULTS_SEED", "1"))
# Busy enough that calls are made under leases, and settled together.
_PER_SECOND: Final = 15.0
# By then reasoning has a lease again, and has settled calls.
_LEASED_WITHIN_SECONDS: Final = 60.0
# One that takes long to start again may cost a task all of its attempts, or its time.
_ENDS: Final = EXPECTED | {task_pb2.TASK_STATE_PARTIAL, task_pb2.TASK_STATE_DEAD_LETTERED}


async def test_kill_9_of_reasoning_loses_no_charge_and_makes_none_twice(tmp_path: Path) -> None:
    """Each call that a task has recorded is charged once, at what it cost.

    Others are charged only where an answer was lost: the model was paid for that as well.
    """
    log = tmp_path / "mesh" / "logs" / "governor.log"
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED, per_second=_PER_SECOND) as load:
            for fault in in_turn(("reasoning",), Action.KILL, seed=_SEED, rounds=_ROUNDS):
                await _calls_are_made_under_leases(log)
                await mesh.inflict(fault)
            await load.has_asked(10)
        ended = await after_the_fault(mesh, load, may_end=_ENDS)
        charged = await charges(mesh.nats_url)
        await charged_is(mesh.address, _by_tenant(charged.values()))
    keys = Counter(each.key.rpartition("/")[0] for each in charged.values())
    costs = {(each.key.rpartition("/")[0], each.usage.cost_micros) for each in charged.values()}
    for each in ended.values():
        calls = [event for event in each.events if event.HasField("model_called")]
        for event in calls:
            step = f"{each.id}/{event.model_called.step}"
            assert (step, event.usage.cost_micros) in costs, step
        # An attempt that was given up may have paid for one call that it did not hear of.
        lost = sum(event.HasField("retried") for event in each.events)
        lost += each.task.state not in EXPECTED
        paid = sum(keys[f"{each.id}/{event.model_called.step}"] for event in calls)
        assert len(calls) <= paid <= len(calls) + lost, _story(each)


async def _calls_are_made_under_leases(log: Path) -> None:
    """Returns when reasoning has got another lease, and calls were settled together.

    Else the test would show nothing. `log` is the governor's.
    """

    def lines() -> bytes:
        return log.read_bytes()

    begun = len(lines())

    def made() -> bool:
        more = lines()[begun:]
        return b"/AcquireLease" in more and b'/BatchSettle"' in more

    await eventually(made, _LEASED_WITHIN_SECONDS)


def _by_tenant(charged: Iterable[UsageRecord]) -> dict[str, int]:
    costs: Counter[str] = Counter()
    for each in charged:
        costs[each.tenant] += each.usage.cost_micros
    return dict(costs)


def _story(ended: Ended) -> str:
    return f"{ended.task.name}: {', '.join(ended.kinds())}"
