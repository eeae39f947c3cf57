"""How many open children a task may have."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import InvalidField

MAX_CHILDREN: Final = 100
# Parents whose new children are remembered; by then the list has those of former ones.
_KEPT_PARENTS: Final = 1_000
# What is not listed by then was never stored.
_KEPT_SECONDS: Final = 60.0
_FIELD: Final = "task.parent_task"


class Children(Protocol):
    """Knows the children of every task, a moment late."""

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]: ...
    async def listed(self, tenant: str, task_ids: Sequence[str]) -> Sequence[str]:
        """Those of `task_ids` that are known, whether they have ended or not."""
        ...


class ChildLimit:
    """A Gate for tasks that clients submit as children of others; the last one.

    What this process lets pass counts until the list has it. What other coordinators
    let pass counts only once it is listed: with n of them, a parent may get n times
    MAX_CHILDREN at one moment.
    """

    def __init__(self, children: Children, clock: Clock) -> None:
        self._children = children
        self._clock = clock
        # The new children of each parent, and when each was let pass.
        self._passed: OrderedDict[str, dict[str, float]] = OrderedDict()

    async def check(self, task: Task) -> None:
        """Returns, and counts the task, if its parent may have it; InvalidField otherwise."""
        if not task.parent_task:
            return
        tenant, parent_id = names.TASK.parse(task.parent_task, field=_FIELD)
        # Asked first: whoever is listed between the two questions is counted once.
        listed = await self._children.listed(tenant, [*self._passed.get(task.parent_task, ())])
        still_open = await self._children.open_children(tenant, parent_id)
        # From here on nobody comes in between.
        now_seconds = self._clock.monotonic_seconds()
        passed = {
            child: at_seconds
            for child, at_seconds in self._passed.pop(task.parent_task, {}).items()
            if child not in listed and now_seconds - at_seconds < _KEPT_SECONDS
        }
        is_full = len({*still_open, *passed}) >= MAX_CHILDREN
        if not is_full:
            passed[names.TASK.parse(task.name, field="task.name")[1]] = now_seconds
        self._passed[task.parent_task] = passed
        if len(self._passed) > _KEPT_PARENTS:
            self._passed.popitem(last=False)
        if is_full:
            raise InvalidField(
                _FIELD,
                f"must be a task with fewer than {MAX_CHILDREN} open children."
                " Wait until some have ended",
            )
