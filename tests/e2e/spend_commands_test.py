"""What is spent in a whole mesh, limited, explained, reported and proved from the command line."""

import asyncio
import csv
import importlib
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.governor.v1.cost_governor_service_pb2 import WatchAlertsResponse
from audit import api as audit
from audit.report import Report
from cli import alert_watch
from cli.alert_watch import Wanted
from cli.app import app
from cli.gateway import connect
from meshkit import redis_store
from meshkit.bus import Bus
from meshtest.eventually import eventually
from tests.audit.later_clock import LaterClock
from tests.e2e.running_mesh import Client, running
from tier.api import Tier

pytest_plugins = ["meshtest.fixtures"]

# They have no types.
_ARROW: Any = importlib.import_module("pyarrow")
_PARQUET: Any = importlib.import_module("pyarrow.parquet")
_PRICES = Path("services/governor/prices.yaml")
_DAY = "tenants/default/budgets/tenant-day"


@dataclass(frozen=True, slots=True)
class _User:
    """Somebody at a terminal, beside a mesh whose model costs something."""

    client: Client
    folder: Path
    # Where the ledger is: a file, or the address of a server.
    ledger: str

    async def run(self, *arguments: str) -> Result:
        """The end of `agentmesh ARGUMENTS`."""

        def invoke() -> Result:
            line = [*arguments, "--data-dir", str(self.folder)]
            return CliRunner().invoke(app, line, prog_name="agentmesh")

        return await asyncio.to_thread(invoke)

    async def json(self, *arguments: str) -> Any:
        """What a command answers that succeeds."""
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def until(self, holds: Callable[[Any], bool], *arguments: str) -> Any:
        """The first answer of which `holds` is true: what is settled shows a moment later."""

        async def look() -> Any:
            found = await self.json(*arguments)
            assert holds(found), found
            return found

        return await eventually(look, 20)

    async def audit(self) -> Report:
        """What an audit finds in the mesh's stores; the command itself needs a main thread."""
        ports = {
            each.name: each.ports[0] for each in self.client.mesh.state.processes if each.ports
        }
        redis = redis_store.connect(f"redis://127.0.0.1:{ports['redis']}")
        async with (
            aclosing(redis),
            await Bus.connect(f"nats://127.0.0.1:{ports['nats']}", name="audit") as bus,
        ):
            return await audit.run(bus, redis, ledger=self.ledger, clock=LaterClock())

    async def work(self, text: str) -> int:
        """What a task cost that succeeded, in micro-dollars."""
        task = await self.client.submit(text)

        async def ended() -> task_pb2.Task:
            found = await self.client.get(task.name)
            assert found.state == task_pb2.TASK_STATE_SUCCEEDED, found
            return found

        return (await eventually(ended, 30)).usage.cost_micros


def _config(folder: Path, ledger: str) -> Path:
    """Calls of the model that comes with the mesh cost something here."""
    book = yaml.safe_load(_PRICES.read_text("utf-8"))
    book["versions"][-1]["models"]["offline"].update(input=1_000_000, output=2_000_000)
    prices, config = folder / "prices.yaml", folder / "mesh.yaml"
    prices.write_text(yaml.safe_dump(book), "utf-8")
    section = {"price_book": str(prices)}
    governor = {**section, "ledger_database": ledger}
    config.write_text(yaml.safe_dump({"governor": governor, "reasoning": section}), "utf-8")
    return config


@pytest.fixture(params=["prototype", "staging", "postgresql"])
async def user(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[_User]:
    """In both tiers, and with the ledger on a server."""
    folder = tmp_path / "data"
    address: str = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    tier = Tier.PROTOTYPE if request.param == "prototype" else Tier.STAGING
    async with running(folder, tier, config=_config(tmp_path, address)) as client:
        yield _User(client, folder, address or str(folder / "governor" / "ledger.sqlite"))


async def test_spending_is_limited_explained_reported_and_proved(user: _User) -> None:
    """One amount, wherever it is asked for: tasks, budgets, ledger, file and audit agree."""
    made = await user.json(
        "budget", "set", "--window", "day", "--limit", "1", "--alert-at", "50",
    )  # fmt: skip
    assert (made["status"]["budget"]["name"], made["status"]["spent_micros"]) == (_DAY, 0)
    spent = await user.work("What is 3 * 17?") + await user.work("What is 4 * 17?")
    assert spent > 0

    (status,) = (
        each
        for each in (
            await user.until(
                lambda found: any(each["spent_micros"] == spent for each in found["statuses"]),
                "budget",
                "list",
            )
        )["statuses"]
        if each["budget"]["name"] == _DAY
    )
    assert (status["spent_micros"], status["budget"]["limit_micros"]) == (spent, 1_000_000)

    def complete(found: Any) -> bool:
        return [row["usage"]["cost_micros"] for row in found["rows"]] == [spent]

    (row,) = (await user.until(complete, "spend", "--by", "model"))["rows"]
    assert row["group"] == ["offline"]
    # How tasks ended is known from their log, a moment later.
    (row,) = (
        await user.until(
            lambda found: [each["succeeded_tasks"] for each in found["rows"]] == [2],
            "spend", "--by", "day", "--since", "today",
        )
    )["rows"]  # fmt: skip
    assert row["cost_micros_per_succeeded_task"] == spent / 2
    overview = await user.json("spend")
    assert overview["day"]["spent_micros"] == overview["month"]["spent_micros"] == spent
    assert overview["projection"]["day"]["projected_micros"] >= spent

    exported = await user.run("spend", "--export", "csv", "-", "--since", "today")
    assert exported.exit_code == 0, exported.output
    entries = list(csv.DictReader(io.StringIO(exported.stdout)))
    assert sum(int(each["cost_micros"]) for each in entries) == spent

    for form in ("parquet", "arrow"):
        file = user.folder.parent / f"spend.{form}"
        written = await user.json("spend", "--export", form, str(file), "--since", "today")
        assert written == {"file": str(file), "bytes": file.stat().st_size}
        with _ARROW.memory_map(str(file)) as source:
            if form == "parquet":
                table = _PARQUET.read_table(source)
            else:
                table = _ARROW.ipc.open_stream(source).read_all()
        costs = {row["key"]: row["cost_micros"] for row in table.to_pylist()}
        assert costs == {each["key"]: int(each["cost_micros"]) for each in entries}

    report = await user.audit()
    assert report.findings == ()
    assert report.counts["ledger_charges"] == report.counts["charges"] == len(entries)
    assert report.counts["charged_micros"] == spent


async def test_a_spent_budget_refuses_and_says_why(user: _User) -> None:
    """Under a limit below what a call costs nothing is made; with room again, it is."""
    await user.json("budget", "set", "--window", "day", "--limit", "0.000001")
    task = await user.client.submit("What is 3 * 17?")

    async def ended() -> task_pb2.Task:
        found = await user.client.get(task.name)
        assert found.HasField("end_time"), found
        return found

    refused = await eventually(ended, 30)
    assert refused.state != task_pb2.TASK_STATE_SUCCEEDED
    assert _DAY in refused.error.message
    assert (await user.json("spend"))["day"]["spent_micros"] == 0
    await user.json("budget", "delete", "tenant-day")
    explained = await user.json("budget", "explain")
    assert (explained["decision"], explained["deciding_budget"]) == ("DECISION_ALLOW", "")
    assert await user.work("What is 3 * 17?") > 0


@pytest.mark.parametrize("user", ["staging"], indirect=True)
async def test_alerts_are_followed_over_a_restart_of_the_governor(user: _User) -> None:
    """Who follows them hears each once, those of before and those of after it was killed."""
    cost = await user.work("What is 3 * 17?")
    followed: list[WatchAlertsResponse] = []

    async def follow() -> None:
        wanted = Wanted("tenants/default", after=None, limit=None, kinds=frozenset({"ALERT"}))
        async with connect(user.client.mesh.address, tenant="default") as gateway:
            _, position = await alert_watch.past(gateway, wanted)
            coming = alert_watch.coming(gateway, wanted, position)
            async for alert in coming:
                followed.append(alert)  # noqa: PERF401  one by one: it is looked at meanwhile

    async def reach(times: int) -> None:
        """The next task brings the day to its threshold: another limit is another crossing."""

        async def is_set() -> bool:
            dollars = f"{cost * times / 1e6:.6f}"
            await user.json(
                "budget", "set", "--window", "day", "--limit", dollars, "--alert-at", "1",
            )  # fmt: skip
            return True

        await eventually(is_set, 30)
        await user.work("What is 4 * 17?")

    async def heard(number: int) -> None:
        await eventually(lambda: len(followed) == number, 30)

    def governor() -> int:
        (pid,) = (each.pid for each in user.client.mesh.state.processes if each.name == "governor")
        return pid

    following = asyncio.create_task(follow())
    try:
        await reach(100)
        await heard(1)
        killed = governor()
        os.kill(killed, signal.SIGKILL)

        await eventually(lambda: governor() != killed, 30)
        await reach(200)
        await heard(2)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert [each.limit_micros for each in followed] == [cost * 100, cost * 200]
    assert followed[0].sequence < followed[1].sequence
    told = await user.json("alerts")
    assert [each["id"] for each in told["alerts"] if each["kind"] == "ALERT"] == [
        each.id for each in followed
    ]
