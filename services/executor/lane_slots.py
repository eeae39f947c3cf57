"""How many tasks each lane may still start: its own workers, and those it may borrow. Pure."""

from agentmesh.common.v1 import tier_pb2
from tasklog.policy import Policy


class LaneSlots:
    """Counts the workers of one executor.

    A lane uses its own workers first, and then those that all lanes share; so a
    lane's own workers are there for it however busy the others are. Where the
    policy shrinks, what runs goes on, and nothing new begins until there is room.
    """

    def __init__(self, policy: Policy) -> None:
        self._taken: dict[int, int] = dict.fromkeys(policy.lanes, 0)
        self.resize(policy)

    def resize(self, policy: Policy) -> None:
        """Counts by another policy from now on."""
        # As plain numbers: what is free is asked for several times a task.
        self._workers = {lane: each.workers for lane, each in policy.lanes.items()}
        self._most = {lane: each.max_concurrent for lane, each in policy.lanes.items()}
        self._shared = policy.message.shared_workers

    def taken(self, lane: tier_pb2.Lane) -> int:
        """Workers that are busy with the lane, or kept for what was asked for."""
        return self._taken[lane]

    def free(self, lane: tier_pb2.Lane) -> int:
        """Tasks that the lane may start now."""
        taken = self._taken[lane]
        free = max(0, self._workers[lane] - taken) + max(0, self._shared_left())
        return max(0, min(self._most[lane] - taken, free))

    def take(self, lane: tier_pb2.Lane) -> None:
        """A worker goes to the lane."""
        self._taken[lane] += 1

    def release(self, lane: tier_pb2.Lane, workers: int = 1) -> None:
        """Workers of the lane are free again."""
        self._taken[lane] -= workers

    def _shared_left(self) -> int:
        left = self._shared
        for lane, taken in self._taken.items():
            if taken > self._workers[lane]:
                left -= taken - self._workers[lane]
        return left
