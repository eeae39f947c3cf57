"""What is spent in a whole mesh, limited, explained, reported and proved from the command line."""

import asyncio
import csv
import importlib
import io
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
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
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.postgres_server import PostgresServer
from tests.audit.later_clock import LaterClock
from tests.e2e.running_mesh import Client, running
from tier.api import Tier

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

# They have no types.
_ARROW: Any = importlib.import_module("pyarrow")
_PARQUET: Any = importlib.import_module("pyarrow.parquet")
_PRICES = Path("services/governor/prices.yaml")


@dataclass(frozen=True, slots=True)
class _Mesh:
    """A mesh whose model costs something."""

    client: Client
    folder: Path
    # Where the ledger is: a file, or the address of a server.
    ledger: str


@dataclass(frozen=True, slots=True)
class _User:
    """Somebody of a tenant at a terminal beside a mesh."""

    mesh: _Mesh
    tenant: str

    @property
    def day(self) -> str:
        """The name of the tenant's budget for a day."""
        return f"tenants/{self.tenant}/budgets/tenant-day"

    async def run(self, *arguments: str) -> Result:
        """The end of `agentmesh ARGUMENTS`."""

        def invoke() -> Result:
            line = [*arguments, "--data-dir", str(self.mesh.folder), "--tenant", self.tenant]
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

        return await eventually(look, 60)

    async def audit(self) -> Report:
        """What an audit finds in the mesh's stores; the command itself needs a main thread."""
        ports = {
            each.name: each.ports[0] for each in self.mesh.client.mesh.state.processes if each.ports
        }
        redis, counters = (
            redis_store.connect(f"redis://127.0.0.1:{port}")
            for port in (ports["redis"], ports.get("redis-counters", ports["redis"]))
        )
        async with (
            aclosing(redis),
            aclosing(counters),
            await Bus.connect(f"nats://127.0.0.1:{ports['nats']}", name="audit") as bus,
        ):
            return await audit.run(
                bus, redis, counters=counters, ledger=self.mesh.ledger, clock=LaterClock()
            )

    async def work(self, text: str) -> int:
        """What a task cost that succeeded, in micro-dollars."""
        ended = await self.ended(text)
        assert ended.state == task_pb2.TASK_STATE_SUCCEEDED, ended
        return ended.usage.cost_micros

    async def ended(self, text: str) -> task_pb2.Task:
        """A task, when it has ended."""
        with identity.use(Identity(self.tenant, "user:test")):
            task = await self.mesh.client.submit(text)

            async def look() -> task_pb2.Task:
                found = await self.mesh.client.get(task.name)
                assert found.HasField("end_time"), found
                return found

            return await eventually(look, 60)


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


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[Tier.PROTOTYPE, Tier.STAGING])
async def mesh(
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    shared_postgres: PostgresServer,
) -> AsyncIterator[_Mesh]:
    """In both tiers: with the ledger in a file, and on a server."""
    folder = tmp_path_factory.mktemp("mesh")
    data = folder / "data"
    address = shared_postgres.new_database() if request.param is Tier.STAGING else ""
    async with running(data, request.param, config=_config(folder, address)) as client:
        yield _Mesh(client, data, address or str(data / "governor" / "ledger.sqlite"))


@pytest.fixture(scope="module")
def tenants() -> Iterator[str]:
    """Those of the tests, one after the other."""
    return (f"spends-{number}" for number in itertools.count())


@pytest.fixture
def user(mesh: _Mesh, tenants: Iterator[str]) -> _User:
    """Somebody whose tenant has spent nothing."""
    return _User(mesh, next(tenants))


async def test_spending_is_limited_explained_reported_and_proved(
    user: _User, tmp_path: Path
) -> None:
    """One amount, wherever it is asked for: tasks, budgets, ledger, file and audit agree."""
    made = await user.json(
        "budget", "set", "--window", "day", "--limit", "1", "--alert-at", "50",
    )  # fmt: skip
    assert (made["status"]["budget"]["name"], made["status"]["spent_micros"]) == (user.day, 0)
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
        if each["budget"]["name"] == user.day
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
        file = tmp_path / f"spend.{form}"
        written = await user.json("spend", "--export", form, str(file), "--since", "today")
        assert written == {"file": str(file), "bytes": file.stat().st_size}
        with _ARROW.memory_map(str(file)) as source:
            if form == "parquet":
                table = _PARQUET.read_table(source)
            else:
                table = _ARROW.ipc.open_stream(source).read_all()
        costs = {row["key"]: row["cost_micros"] for row in table.to_pylist()}
        assert costs == {each["key"]: int(each["cost_micros"]) for each in entries}

    of_all = await user.run("spend", "--export", "csv", "-", "--since", "today", "--all-tenants")
    assert of_all.exit_code == 0, of_all.output
    charged = [int(each["cost_micros"]) for each in csv.DictReader(io.StringIO(of_all.stdout))]
    report = await user.audit()
    assert report.findings == ()
    assert report.counts["ledger_charges"] == report.counts["charges"] == len(charged)
    assert report.counts["charged_micros"] == sum(charged) >= spent


async def test_a_spent_budget_refuses_and_says_why(user: _User) -> None:
    """Under a limit below what a call costs nothing is made; with room again, it is."""
    await user.json("budget", "set", "--window", "day", "--limit", "0.000001")
    refused = await user.ended("What is 3 * 17?")
    assert refused.state != task_pb2.TASK_STATE_SUCCEEDED
    assert user.day in refused.error.message
    assert (await user.json("spend"))["day"]["spent_micros"] == 0
    await user.json("budget", "delete", "tenant-day")
    explained = await user.json("budget", "explain")
    assert (explained["decision"], explained["deciding_budget"]) == ("DECISION_ALLOW", "")
    assert await user.work("What is 3 * 17?") > 0


@pytest.mark.parametrize("mesh", [Tier.STAGING], indirect=True)
async def test_alerts_are_followed_over_a_restart_of_the_governor(user: _User) -> None:
    """Who follows them hears each once, those of before and those of after it was killed."""
    cost = await user.work("What is 3 * 17?")
    followed: list[WatchAlertsResponse] = []

    async def follow() -> None:
        wanted = Wanted(
            f"tenants/{user.tenant}", after=None, limit=None, kinds=frozenset({"ALERT"})
        )
        async with connect(user.mesh.client.mesh.address, tenant=user.tenant) as gateway:
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

        await eventually(is_set, 60)
        await user.work("What is 4 * 17?")

    async def heard(number: int) -> None:
        await eventually(lambda: len(followed) == number, 60)

    def governor() -> int:
        (pid,) = (
            each.pid for each in user.mesh.client.mesh.state.processes if each.name == "governor"
        )
        return pid

    following = asyncio.create_task(follow())
    try:
        await reach(100)
        await heard(1)
        killed = governor()
        os.kill(killed, signal.SIGKILL)

        await eventually(lambda: governor() != killed, 60)
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
