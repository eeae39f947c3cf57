"""The governor's ledger in SQL; only read. See services/governor/ledger_tables.py."""

import asyncio
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from audit.ledger import Account, LedgerStanding
from audit.usage_jetstream import STREAM
from meshkit.errors import DependencyUnavailable

_SCHEMA: Final = "agentmesh_ledger"
_POSITION: Final = sa.text("SELECT position FROM ledger_position WHERE stream = :stream")
_CHARGED: Final = sa.text(
    "SELECT tenant, COUNT(CASE WHEN sequence <= :position THEN 1 END),"
    " SUM(CASE WHEN sequence <= :position THEN cost_micros ELSE 0 END), SUM(cost_micros)"
    " FROM charge GROUP BY tenant"
)
_BOOKED: Final = sa.text(
    "SELECT account.subject, SUM(amount_micros) FROM entry JOIN account"
    " ON account.id = entry.account_id WHERE account.kind = 'spending' GROUP BY account.subject"
)
_TOTALS: Final = sa.text(
    "SELECT tenant, SUM(cost_micros) FROM scope_total WHERE kind = 'tenant' GROUP BY tenant"
)
_BALANCE: Final = sa.text("SELECT COALESCE(SUM(amount_micros), 0) FROM entry")


class SqlLedger:
    """A Ledger."""

    def __init__(self, address: str) -> None:
        """`address`: the file, or `postgresql://USER@HOST:PORT/DATABASE`."""
        self._address: Final = address

    async def standing(self) -> LedgerStanding:
        """Where it stands, in one transaction. Raises DependencyUnavailable."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> LedgerStanding:
        try:
            engine = self._engine()
            try:
                with engine.connect() as connection, connection.begin():
                    return _standing(connection)
            finally:
                engine.dispose()
        except exc.SQLAlchemyError as error:
            # The driver's own word: SQLAlchemy's has the statement, too.
            cause = error.orig if isinstance(error, exc.DBAPIError) else error
            raise DependencyUnavailable(
                f"Failed to read the ledger: {str(cause).strip().partition(chr(10))[0]}.",
                metadata={"dependency": "ledger"},
            ) from error

    def _engine(self) -> sa.Engine:
        if "://" not in self._address:
            file = Path(self._address).absolute().as_uri()
            return sa.create_engine(f"sqlite:///{file}?mode=ro&uri=true")
        url = sa.make_url(self._address).set(drivername="postgresql+psycopg")
        return sa.create_engine(
            url,
            isolation_level="REPEATABLE READ",
            connect_args={"options": f"-c search_path={_SCHEMA}", "connect_timeout": 5},
        )


def _standing(connection: sa.Connection) -> LedgerStanding:
    position = int(connection.scalar(_POSITION, {"stream": STREAM}) or 0)
    charged = {
        tenant: (int(count), int(reached), int(micros))
        for tenant, count, reached, micros in connection.execute(_CHARGED, {"position": position})
    }
    booked = _by_tenant(connection.execute(_BOOKED))
    totals = _by_tenant(connection.execute(_TOTALS))
    return LedgerStanding(
        position,
        {
            tenant: Account(
                *charged.get(tenant, (0, 0, 0)), booked.get(tenant, 0), totals.get(tenant, 0)
            )
            for tenant in {*charged, *booked, *totals}
        },
        int(connection.scalar(_BALANCE) or 0),
    )


def _by_tenant(rows: Any) -> dict[str, int]:
    return {tenant: int(micros) for tenant, micros in rows}
