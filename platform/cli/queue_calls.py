"""The calls of `agentmesh queue`, and what they print."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import GetQueueStatsRequest, LaneStats
from agentmesh.coordinator.v1.queue_service_pb2 import (
    GetQueuePolicyRequest,
    QueuePolicy,
    SetQueuePolicyRequest,
)
from cli import policy_document
from cli.choices import LANES
from cli.event_line import lane_name
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.policy_document import difference
from cli.problem import Problem
from cli.text_file import read_text
from meshkit.errors import Conflict

# The built-in policy's etag, under which it is replaced only while nobody has set another.
_BUILT_IN: Final = "0"
# How often a change of single limits is made again on top of somebody else's.
_TURNS: Final = 5


def stats(invocation: Invocation, parent: str) -> None:
    """Prints how the lanes stand."""

    async def run(gateway: Gateway) -> list[LaneStats]:
        answer = await gateway.coordinator.GetQueueStats(
            GetQueueStatsRequest(parent=parent), timeout=CALL_SECONDS
        )
        return list(answer.lanes)

    lanes = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"lanes": [to_plain(each) for each in lanes]})
        return
    columns = ("LANE", "QUEUED", "RUNNING", "REDELIVERED", "MAX QUEUED", "MAX RUNNING")
    invocation.terminal.table(
        columns,
        [
            (
                lane_name(each.lane),
                f"{each.queued:,}",
                f"{each.running:,}",
                f"{each.redelivered:,}",
                f"{each.max_queued:,}",
                f"{each.max_concurrent:,}",
            )
            for each in lanes
        ],
        right=columns[1:],
    )


def policy(invocation: Invocation) -> None:
    """Prints the policy in force."""
    found = call(address_of(invocation), invocation.tenant, _get)
    if invocation.terminal.as_json:
        invocation.terminal.document(to_plain(found))
    else:
        invocation.terminal.say(policy_document.to_yaml(found))


def apply(invocation: Invocation, file: Path, *, dry_run: bool, ask: bool) -> bool:
    """Shows what the file changes, and puts it in force. False where the person says no."""
    terminal = invocation.terminal
    text = sys.stdin.read() if str(file) == "-" else read_text(file)
    wanted = policy_document.from_text(text, str(file))
    before = call(address_of(invocation), invocation.tenant, _get)
    wanted.etag = wanted.etag or before.etag
    lines = difference(before, wanted)
    if not terminal.as_json:
        _show(invocation, lines)
    if lines and not dry_run:
        if ask and terminal.interactive and not terminal.confirm("Put this in force?"):
            return False

        async def put(gateway: Gateway) -> QueuePolicy:
            return await _set(gateway, wanted)

        _done(invocation, lines, call(address_of(invocation), invocation.tenant, put))
    elif terminal.as_json:
        terminal.document({"changes": lines, "applied": False})
    return True


def set_lane(invocation: Invocation, name: str, settings: Mapping[str, str]) -> None:
    """Changes limits of a lane."""

    def edit(changed: QueuePolicy) -> None:
        for lane in changed.lanes:
            if lane.lane == LANES[name]:
                policy_document.change(lane, settings)

    _change(invocation, edit)


def set_tier(invocation: Invocation, name: str, settings: Mapping[str, str]) -> None:
    """Changes limits of a tenant tier; Problem where there is none of that name."""

    def edit(changed: QueuePolicy) -> None:
        tiers = {tier.id: tier for tier in changed.tenant_tiers}
        if name not in tiers:
            raise Problem(
                f"There is no tier {name!r}; there are {', '.join(tiers)}.",
                "Add one with `agentmesh queue policy` and `agentmesh queue apply`.",
            )
        policy_document.change(tiers[name], settings)

    _change(invocation, edit)


def set_tenant(invocation: Invocation, tenant: str, tier: str | None) -> None:
    """Moves a tenant to a tier, or to the default one."""

    def edit(changed: QueuePolicy) -> None:
        if tier is None:
            changed.tenants.pop(tenant, None)
        else:
            changed.tenants[tenant] = tier

    _change(invocation, edit)


def _change(invocation: Invocation, edit: Callable[[QueuePolicy], None]) -> None:
    """Applies `edit` to the policy in force, again where somebody else changed it meanwhile."""

    async def run(gateway: Gateway) -> tuple[list[str], QueuePolicy]:
        for turn in range(_TURNS):
            before = await _get(gateway)
            changed = QueuePolicy()
            changed.CopyFrom(before)
            edit(changed)
            lines = difference(before, changed)
            try:
                return lines, await _set(gateway, changed) if lines else before
            except Conflict:
                if turn + 1 == _TURNS:
                    raise
        raise AssertionError("the last turn returns or raises")

    lines, after = call(address_of(invocation), invocation.tenant, run)
    if not invocation.terminal.as_json:
        _show(invocation, lines)
    _done(invocation, lines, after)


def _show(invocation: Invocation, lines: list[str]) -> None:
    styles = {"+": "green", "-": "red", "~": "yellow"}
    for line in lines:
        invocation.terminal.say(line, style=styles[line[0]])
    if not lines:
        invocation.terminal.say("Nothing changes.")


def _done(invocation: Invocation, lines: list[str], after: QueuePolicy) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.document(
            {"changes": lines, "applied": bool(lines), "policy": to_plain(after)}
        )
    elif lines:
        invocation.terminal.progress(f"In force, as etag {after.etag}.")


async def _get(gateway: Gateway) -> QueuePolicy:
    answer = await gateway.queues.GetQueuePolicy(GetQueuePolicyRequest(), timeout=CALL_SECONDS)
    found: QueuePolicy = answer.policy
    found.etag = found.etag or _BUILT_IN
    return found


async def _set(gateway: Gateway, policy: QueuePolicy) -> QueuePolicy:
    answer = await gateway.queues.SetQueuePolicy(
        SetQueuePolicyRequest(policy=policy), timeout=CALL_SECONDS
    )
    return answer.policy
