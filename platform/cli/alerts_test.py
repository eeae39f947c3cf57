"""Alerts: those there are, and following what comes."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceServicer
from cli import alert_watch
from cli.alert_watch import Wanted
from cli.command_mesh import Commands, commands_for
from cli.gateway import connect
from meshkit.errors import DependencyUnavailable, Forbidden

_KINDS = ("ALERT", "DEGRADE", "THROTTLE", "SHUTOFF", "VELOCITY", "ANOMALY")


def _alert(sequence: int) -> pb.WatchAlertsResponse:
    kind = _KINDS[(sequence - 1) % len(_KINDS)]
    alert = pb.WatchAlertsResponse(
        budget="" if kind == "ANOMALY" else "tenants/default/budgets/tenant-day",
        kind=kind,
        text=f"Number {sequence}.",
        sequence=sequence,
        tenant="default",
        id=f"id{sequence}",
        spent_micros=sequence * 1_500_000,
        limit_micros=10_000_000,
    )
    alert.time.FromJsonString("2026-11-20T12:00:00Z")
    return alert


class _Governor(CostGovernorServiceServicer):
    """Some alerts of the past; what comes, comes two at a time, and then the stream breaks."""

    def __init__(self) -> None:
        self.alerts = [_alert(number) for number in range(1, 8)]
        self.asked: list[pb.WatchAlertsRequest] = []

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: Any
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        self.asked.append(request)
        if request.parent == "tenants/-":
            raise Forbidden("user:cli is no operator.")
        later = [each for each in self.alerts if each.sequence > request.after_sequence]
        if request.past_only:
            for each in later:
                yield each
            return
        assert request.after_sequence != 0
        while len(later) < 2:
            self.alerts.append(_alert(len(self.alerts) + 1))
            later.append(self.alerts[-1])
        for each in later[:2]:
            yield each
        raise DependencyUnavailable("The governor goes down.")


@pytest.fixture
def governor() -> _Governor:
    """A governor that tells alerts."""
    # The server itself answers the methods that are not played.
    return _Governor()  # pyright: ignore[reportAbstractUsage]


@pytest.fixture
async def commands(governor: _Governor) -> AsyncGenerator[Commands]:
    """Command lines that reach it."""
    async with commands_for(CostGovernorService=governor) as commands:
        yield commands


async def test_alerts_are_a_table(commands: Commands) -> None:
    """Each is a line: when, what, of which tenant, how much of what, and in words."""
    result = await commands.run("alerts", "--limit", "2")
    assert result.exit_code == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["SEQUENCE", "TIME", "KIND", "TENANT", "SPENT", "OF", "WHAT", "HAPPENED"]
    assert [line.split()[0] for line in lines] == ["6", "7"]
    assert lines[0].split()[3:] == ["ANOMALY", "default", "$9.00", "$10.00", "Number", "6."]


async def test_the_last_twenty_are_shown(commands: Commands, governor: _Governor) -> None:
    """Without a limit those are the last ones; with --after they are all that came since."""
    governor.alerts = [_alert(number) for number in range(1, 41)]
    for arguments, first in (((), 21), (("--after", "3"), 4), (("--after", "0"), 1)):
        result = await commands.run("alerts", "--json", *arguments)
        assert result.exit_code == 0, result.stderr
        shown = [each["sequence"] for each in json.loads(result.stdout)["alerts"]]
        assert shown == list(range(first, 41))
    assert [each.after_sequence for each in governor.asked] == [-1, 3, -1]
    assert all(each.past_only for each in governor.asked)
    assert {each.parent for each in governor.asked} == {"tenants/default"}


async def test_kinds_can_be_picked(commands: Commands) -> None:
    """--kind leaves out all others, and may be given again; the limit counts what is left."""
    result = await commands.run(
        *("alerts", "--json", "--kind", "alert", "--kind", "shutoff", "--limit", "2")
    )
    alerts = json.loads(result.stdout)["alerts"]
    assert [(each["sequence"], each["kind"]) for each in alerts] == [(4, "SHUTOFF"), (7, "ALERT")]


async def test_no_alerts_are_said_to_be_none(commands: Commands, governor: _Governor) -> None:
    """Where there is nothing, stdout stays empty, and JSON has an empty list."""
    governor.alerts = []
    result = await commands.run("alerts")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "There are no alerts.\n"
    result = await commands.run("alerts", "--json")
    assert json.loads(result.stdout) == {"alerts": []}


@pytest.mark.parametrize("arguments", [("--kind", "anomaly"), ("--after", "5"), ("--limit", "0")])
async def test_none_that_were_asked_for_are_not_none(
    commands: Commands, governor: _Governor, arguments: tuple[str, str]
) -> None:
    """Where there are others, it does not say that there are none."""
    governor.alerts = governor.alerts[:5]
    result = await commands.run("alerts", *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "There are no such alerts.\n"


async def test_all_tenants_are_for_operators(commands: Commands, governor: _Governor) -> None:
    """--all-tenants asks for them, and what the governor says to that is the error."""
    result = await commands.run("alerts", "--all-tenants")
    assert result.exit_code == 1
    assert result.stderr == "error: user:cli is no operator. (FORBIDDEN)\n"
    assert governor.asked[0].parent == "tenants/-"


@pytest.mark.parametrize(
    "arguments",
    [("--kind", "loud"), ("--after", "-1"), ("--after", str(2**63)), ("--limit", "x")],
)
async def test_wrong_usage_is_told_before_anything_is_asked(
    commands: Commands, governor: _Governor, arguments: tuple[str, str]
) -> None:
    """Unknown kinds and numbers that are none end with 2."""
    result = await commands.run("alerts", *arguments)
    assert result.exit_code == 2
    assert not governor.asked


@pytest.mark.parametrize("there", [0, 7])
async def test_following_goes_on_over_broken_streams(
    commands: Commands, governor: _Governor, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every alert once and in order, though each stream breaks after two of them."""
    monkeypatch.setattr(alert_watch, "_PAUSE_SECONDS", 0.0)
    governor.alerts = governor.alerts[:there]
    wanted = Wanted("tenants/default", after=None, limit=3, kinds=frozenset())
    async with connect(commands.gateway, tenant="default") as gateway:
        alerts, position = await alert_watch.past(gateway, wanted)
        seen = [each.sequence for each in alerts]
        async with asyncio.timeout(60):
            async for alert in alert_watch.coming(gateway, wanted, position):
                seen.append(alert.sequence)
                if len(seen) == 12:
                    break
    first = max(1, there - 2)
    assert seen == list(range(first, first + 12))


async def test_following_a_mesh_that_is_gone_has_an_end(
    commands: Commands, governor: _Governor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is heard for as long as a person is patient, the error is told."""
    monkeypatch.setattr(alert_watch, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(alert_watch, "_PATIENCE_SECONDS", 0.0)
    wanted = Wanted("tenants/default", after=None, limit=None, kinds=frozenset({"NONE"}))
    async with connect(commands.gateway, tenant="default") as gateway:
        with pytest.raises(DependencyUnavailable, match="The governor goes down"):
            async for _ in alert_watch.coming(gateway, wanted, 7):
                pass
