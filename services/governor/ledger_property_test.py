"""Any interleaving of repeats, crashes and second writers comes to the same sums."""

import io
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit import log
from services.governor.budget import Scope, ScopeKind
from services.governor.journalled_charges import read_books
from services.governor.ledger_charge import Charge
from services.governor.ledger_database import open_ledger
from services.governor.ledger_sums import Sums
from services.governor.ledger_tables import CHARGE, TASK, WORK
from services.governor.ledger_writer import LedgerWriter
from services.governor.scripted_spending import NOON, charge
from services.governor.usage_stream import STREAM
from sqlstore.positions import BEGINNING, Moved, Place

pytest_plugins = ["services.governor.fixture_ledger"]


def _made(key: str, tenant: str, cost: int, minutes: int, rest: dict[str, str]) -> Charge:
    return charge(key, cost, NOON + timedelta(minutes=minutes), tenant=tenant, **rest)


_CHARGES = st.builds(
    _made,
    st.sampled_from(["k1", "k2", "k3", "k4", "k5"]),
    st.sampled_from(["acme", "else"]),
    st.integers(0, 10**12),
    st.integers(-2_000, 2_000),
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["m1", "m2"]),
            "task": st.sampled_from(["", "t1", "t2"]),
            "task_type": st.sampled_from(["", "chat"]),
            "agent": st.sampled_from(["", "helper"]),
            "session": st.sampled_from(["", "s1"]),
        }
    ),
)
# What happens when a batch is written.
_FATES = st.sampled_from(["written", "crashes", "unheard", "late"])


class _Crash(Exception):
    """The process dies before the transaction is committed."""


class _Crashing:
    """A companion that may end the process between the charges and the commit."""

    def __init__(self) -> None:
        self.crashes = False

    def leads(self) -> None:
        """Nothing to do."""

    def beside(self, charges: Sequence[Charge]) -> Callable[[sa.Connection], None]:
        def work(_: sa.Connection) -> None:
            if self.crashes:
                raise _Crash

        return work

    def written(self) -> None:
        """Nothing to do."""


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(st.lists(st.tuples(st.lists(_CHARGES, max_size=6), _FATES), max_size=8))
async def test_each_key_is_charged_once_and_the_books_balance(
    made_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[list[Charge], str]],
) -> None:
    """By its first record in the journal, whatever becomes of those who write."""
    folder = tmp_path_factory.mktemp("ledger")
    shutil.copy(made_file, folder)
    database = await open_ledger("", folder=folder, log=log.get("test", stream=io.StringIO()))
    crashing = _Crashing()
    writer = LedgerWriter(database, companions=[crashing])
    expected: dict[tuple[str, str], Charge] = {}
    for number, (charges, fate) in enumerate(batches, start=1):
        batch = [each._replace(sequence=number) for each in charges]
        for each in batch:
            expected.setdefault((each.tenant, each.key), each)
        before = (await writer.places()).get(STREAM, BEGINNING)
        places: dict[str, Any] = {"stream": STREAM, "before": before, "after": Place(number, 1)}
        if fate == "crashes":
            crashing.crashes = True
            with pytest.raises(_Crash):
                await writer.apply([batch], **places)
            crashing.crashes = False
        await writer.apply([batch], **places)
        if fate == "late":
            # One that led before and does not know yet that it does not any more.
            with pytest.raises(Moved):
                await LedgerWriter(database).apply([batch], **places)
        if fate == "unheard":
            # Who died after the commit reads the stream anew from where the ledger is.
            writer = LedgerWriter(database, companions=[crashing])
    assert await database.read(_charged) == {
        key: (each.figures.cost_micros, each.sequence, each.model, each.task)
        for key, each in expected.items()
    }
    spending, payable = Counter[str](), Counter[str]()
    for each in expected.values():
        if each.figures.cost_micros:
            spending[each.tenant] += each.figures.cost_micros
            payable[each.model] -= each.figures.cost_micros
    assert await database.read(read_books) == {
        **{("spending", tenant): amount for tenant, amount in spending.items()},
        **{("payable", model): amount for model, amount in payable.items()},
    }
    start = NOON - timedelta(days=2)
    for scope, belongs in _SCOPES.items():
        spent = await database.read(lambda on, asked=scope: Sums(on).spent(asked, start, None))
        assert spent == sum(each.figures.cost_micros for each in expected.values() if belongs(each))
    await database.close()


_SCOPES: dict[Scope, Callable[[Charge], bool]] = {
    Scope(ScopeKind.GLOBAL): lambda each: True,
    Scope(ScopeKind.TENANT, "acme"): lambda each: each.tenant == "acme",
    Scope(ScopeKind.TASK_TYPE, "acme", "chat"): lambda each: (
        (each.tenant, each.task_type) == ("acme", "chat")
    ),
    Scope(ScopeKind.AGENT, "else", "helper"): lambda each: (
        (each.tenant, each.agent) == ("else", "helper")
    ),
    Scope(ScopeKind.SESSION, "acme", "s1"): lambda each: (
        (each.tenant, each.session) == ("acme", "s1")
    ),
    Scope(ScopeKind.TASK, "else", "t2"): lambda each: (each.tenant, each.task) == ("else", "t2"),
}


def _charged(connection: sa.Connection) -> dict[tuple[str, str], tuple[int, int, str, str]]:
    rows = connection.execute(
        sa.select(
            *(CHARGE.c.tenant, CHARGE.c.key, CHARGE.c.cost_micros, CHARGE.c.sequence),
            *(WORK.c.model, sa.func.coalesce(TASK.c.name, "")),
        )
        .join_from(CHARGE, WORK, WORK.c.id == CHARGE.c.work_id)
        .outerjoin(TASK, TASK.c.id == CHARGE.c.task_id)
    )
    return {(tenant, key): tuple(rest) for tenant, key, *rest in rows}
