"""Charges that the ledger cannot take: kept aside, where an operator finds them."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from services.governor.ledger_charge import Charge, charge_text
from services.governor.ledger_tables import REFUSED
from sqlstore.positions import INSERT

# The most that Settle takes, at the highest price; sums of 400,000 of them fit into the tables.
_MOST_FIGURE: Final = 20_000_000_000_000
_MOST_TIER: Final = 32_767
# The end of the year 9999, in microseconds since 1970.
_LAST_MICROS: Final = 253_402_300_799_999_999
# Of PostgreSQL's error codes: a text that no index holds, among others.
_LIMIT_EXCEEDED: Final = "54"


class Refusal(NamedTuple):
    """A charge that is not in the ledger."""

    charge: Charge
    reason: str


def refusal_of(charge: Charge) -> Refusal | None:
    """Why no ledger takes the charge, whatever database it has; None where it may."""
    if not charge.tenant or not charge.key:
        return Refusal(charge, "It names no tenant, or has no key.")
    if min(charge.figures) < 0 or max(charge.figures) > _MOST_FIGURE:
        return Refusal(charge, f"A figure is under 0 or over {_MOST_FIGURE}.")
    if not 0 <= charge.tier <= _MOST_TIER:
        return Refusal(charge, "There is no such tier.")
    if not 0 <= charge.settled_micros <= _LAST_MICROS or abs(charge.called_micros) > _LAST_MICROS:
        return Refusal(charge, "A time is before 1970, or after the year 9999.")
    if any("\0" in each for each in charge if isinstance(each, str)):
        return Refusal(charge, "A text has a NUL character.")
    return None


def is_refusal(error: exc.DBAPIError) -> bool:
    """Whether a database would refuse the same again; it is not away, locked or full."""
    if isinstance(error, exc.DataError | exc.IntegrityError):
        return True
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(_LIMIT_EXCEEDED)


def keep_aside(connection: sa.Connection, refusals: Iterable[Refusal]) -> None:
    """Writes them beside the ledger; one that is there stays as it is."""
    rows = [_row(each) for each in refusals]
    if rows:
        insert = INSERT[connection.dialect.name](REFUSED)
        connection.execute(insert.on_conflict_do_nothing(), rows)


def _row(refusal: Refusal) -> dict[str, str | int]:
    charge = refusal.charge
    text = charge_text(charge)
    return {
        "id": sha256(text.encode("ascii")).hexdigest(),
        "sequence": charge.sequence,
        "reason": refusal.reason,
        "charge": text,
    }
