"""The calls of `agentmesh schedule`, and what they print."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from agentmesh.coordinator.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    Schedule,
    UpdateScheduleRequest,
)
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.schedule_view import show_schedule, show_schedules
from meshkit.errors import Conflict

# How often a change is made again on top of somebody else's.
_TURNS: Final = 5


def create(invocation: Invocation, request: CreateScheduleRequest) -> None:
    """Creates and prints a schedule."""
    # A call that breaks is repeated under the same id, and creates once.
    request.request_id = request.request_id or f"cli-{uuid.uuid4()}"

    async def run(gateway: Gateway) -> Schedule:
        answer = await gateway.schedules.CreateSchedule(request, timeout=CALL_SECONDS)
        return answer.schedule

    _print(invocation, call(address_of(invocation), invocation.tenant, run))


def get(invocation: Invocation, name: str) -> None:
    """Prints a schedule."""

    async def run(gateway: Gateway) -> Schedule:
        return await _get(gateway, name)

    _print(invocation, call(address_of(invocation), invocation.tenant, run))


def list_schedules(invocation: Invocation, limit: int) -> None:
    """Prints the schedules, by id."""

    async def run(gateway: Gateway) -> list[Schedule]:
        return await collect(
            gateway.schedules.ListSchedules,
            ListSchedulesRequest(parent=invocation.parent),
            lambda page: page.schedules,
            limit=limit,
        )

    schedules = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"schedules": [to_plain(each) for each in schedules]})
    else:
        show_schedules(invocation.terminal, schedules, datetime.now(UTC))


def update(invocation: Invocation, name: str, edit: Callable[[Schedule], None]) -> None:
    """Applies `edit` to a schedule, again where somebody else changed it, and prints it."""

    async def run(gateway: Gateway) -> Schedule:
        for turn in range(_TURNS):
            changed = await _get(gateway, name)
            edit(changed)
            try:
                answer = await gateway.schedules.UpdateSchedule(
                    UpdateScheduleRequest(schedule=changed), timeout=CALL_SECONDS
                )
            except Conflict:
                if turn + 1 == _TURNS:
                    raise
            else:
                return answer.schedule
        raise AssertionError("the last turn returns or raises")

    _print(invocation, call(address_of(invocation), invocation.tenant, run))


def delete(invocation: Invocation, name: str) -> None:
    """Removes a schedule."""

    async def run(gateway: Gateway) -> None:
        await gateway.schedules.DeleteSchedule(
            DeleteScheduleRequest(name=name), timeout=CALL_SECONDS
        )

    call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"deleted": name})
    else:
        invocation.terminal.say(f"{name} is deleted.")


async def _get(gateway: Gateway, name: str) -> Schedule:
    answer = await gateway.schedules.GetSchedule(
        GetScheduleRequest(name=name), timeout=CALL_SECONDS
    )
    return answer.schedule


def _print(invocation: Invocation, schedule: Schedule) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.document({"schedule": to_plain(schedule)})
    else:
        show_schedule(invocation.terminal, schedule, datetime.now(UTC))
