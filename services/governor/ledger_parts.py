"""The ledger as a governor has it: where it is, what keeps it up, and who may be asked."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from meshkit.log import Log
from meshkit.service import Resources
from services.governor.ledger_balances import LedgerBalances
from services.governor.ledger_database import open_ledger
from services.governor.ledger_ends import carry_ends
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_refused import Refusal
from services.governor.ledger_repeats import SqlRepeats
from services.governor.ledger_turns import InTurns
from services.governor.ledger_writer import Companion, LedgerWriter
from services.governor.profiles import Profiles
from services.governor.profiles_sql import SqlProfiles
from services.governor.usage_stream import STREAM
from sqlstore.database import Database, Readable


@dataclass(frozen=True, slots=True)
class LedgerParts:
    """What is made of one database."""

    database: Database
    # The same, for what may take long.
    questions: Readable
    balances: LedgerBalances
    profiles: Profiles
    repeats: SqlRepeats
    # What keeps them up, until cancelled.
    background: Sequence[Callable[[], Awaitable[None]]]


async def build_ledger(
    resources: Resources,
    address: str,
    *,
    companions: Sequence[Companion] = (),
    on_repeats: Callable[[], None] = lambda: None,
) -> LedgerParts:
    """The ledger at an address, or in a file where that is empty.

    `on_repeats`: called when there is something new in `repeats`.

    Raises:
        ConfigError: It can never be used as things are.
    """
    bus, log = resources.bus, resources.log
    database = await open_ledger(address, folder=resources.data_dir / "governor", log=log)
    resources.stack.push_async_callback(database.close)
    questions = InTurns(database)
    writer = LedgerWriter(
        database, companions=companions, on_refusal=partial(_tell, log), on_repeats=on_repeats
    )
    projector = ledger_projector(bus, writer, log)
    profiles = Profiles(SqlProfiles(questions), resources.clock, log)
    return LedgerParts(
        database=database,
        questions=questions,
        balances=LedgerBalances(bus, database, projector),
        profiles=profiles,
        repeats=SqlRepeats(database),
        background=(projector.run, partial(carry_ends, bus, database, log), profiles.run),
    )


def _tell(log: Log, refusal: Refusal) -> None:
    charge = refusal.charge
    log.error(
        "ledger.refused",
        stream=STREAM,
        sequence=charge.sequence,
        tenant=ascii(charge.tenant),
        key=ascii(charge.key),
        reason=refusal.reason,
    )
