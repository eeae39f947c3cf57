"""The ledger's charges as a file: CSV, Parquet or an Arrow stream, in parts."""

import asyncio
import csv
import importlib
import io
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, Protocol

import sqlalchemy as sa

from services.governor.ledger_sums import micros_of, time_of
from services.governor.ledger_tables import CHARGE, FIGURES, TASK, WORK
from services.governor.spend_query import tier_text
from sqlstore.database import Readable

# The most that a part of the file may have.
PART_BYTES: Final = 1 << 20
# So many charges are read and written together: a megabyte or so.
_BATCH: Final = 5_000

_TEXTS: Final = (
    "tenant",
    "key",
    "task",
    "task_type",
    "agent",
    "session",
    "model",
    "tier",
    "price_version",
)
_TIMES: Final = ("call_time", "settle_time")
_COLUMNS: Final = (*_TEXTS, *_TIMES, *FIGURES)
_TIER: Final = _COLUMNS.index("tier")
# What a spreadsheet takes for a formula, which may send away what stands beside it, begins so.
# Where it separates by semicolons, a cell begins after each of them, and may be in quotes.
_FORMULA: Final = re.compile(r'(^|;)(?=["\s]*[=+\-@])')

Row = tuple[Any, ...]


class Format(Enum):
    """How it is written."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True)
class Export:
    """What is wanted. Times are those at which calls ended."""

    # None for all tenants, one after the other.
    tenant: str | None
    start: datetime
    end: datetime
    format: Format


class SpendExport:
    """Reads the ledger in pieces, so that any number of charges takes little memory."""

    def __init__(self, database: Readable) -> None:
        self._database: Final = database

    async def parts(self, export: Export) -> AsyncGenerator[bytes]:
        """The file in parts of at most `PART_BYTES`, none of them empty.

        It has what was in the ledger when it was begun.

        Raises:
            DependencyUnavailable: The ledger cannot be read.
        """
        sink = io.BytesIO()
        file = await asyncio.to_thread(_WRITERS[export.format], sink)
        last = await self._database.read(_last_charge)
        tenants = [export.tenant]
        if export.tenant is None:
            tenants = await self._database.read(_tenants)
        for tenant in tenants:
            after = (micros_of(export.start), 0)
            while True:
                statement = _statement(tenant or "", after, micros_of(export.end), last)
                found = await self._database.read(
                    lambda on, asked=statement: on.execute(asked).all()
                )
                if not found:
                    break
                after = found[-1].call_time, found[-1].id
                await asyncio.to_thread(file.write, [_row(each) for each in found])
                for part in _taken(sink):
                    yield part
        await asyncio.to_thread(file.close)
        for part in _taken(sink):
            yield part


class _File(Protocol):
    """What is written to a sink."""

    def write(self, rows: Sequence[Row]) -> None: ...
    def close(self) -> None: ...


class _CsvFile:
    """RFC 4180: with a header, lines ended by CR and LF; times as in RFC 3339.

    What a spreadsheet would take for a formula has an apostrophe before it.
    """

    def __init__(self, sink: io.BytesIO) -> None:
        self._text: Final = io.TextIOWrapper(sink, "utf-8", newline="", write_through=True)
        self._csv: Final = csv.writer(self._text)
        self._csv.writerow(_COLUMNS)

    def write(self, rows: Sequence[Row]) -> None:
        self._csv.writerows([_cell(each) for each in row] for row in rows)

    def close(self) -> None:
        self._text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


class _ArrowFile:
    """Of record batches: Arrow's IPC stream, or Parquet with a row group for each."""

    def __init__(self, sink: io.BytesIO, *, parquet: bool) -> None:
        # Large, and only few processes ever export anything.
        self._arrow: Final[Any] = importlib.import_module("pyarrow")
        arrow = self._arrow
        moment = arrow.timestamp("us", tz="UTC")
        self._schema: Final[Any] = arrow.schema(
            [
                *((name, arrow.string()) for name in _TEXTS),
                *((name, moment) for name in _TIMES),
                *((name, arrow.int64()) for name in FIGURES),
            ]
        )
        self._writer: Final[Any] = (
            importlib.import_module("pyarrow.parquet").ParquetWriter(sink, self._schema)
            if parquet
            else arrow.ipc.new_stream(sink, self._schema)
        )

    def write(self, rows: Sequence[Row]) -> None:
        columns = [
            self._arrow.array(values, type=field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_batch(self._arrow.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _parquet_file(sink: io.BytesIO) -> _File:
    return _ArrowFile(_Kept(sink), parquet=True)


def _arrow_file(sink: io.BytesIO) -> _File:
    return _ArrowFile(_Kept(sink), parquet=False)


class _Kept(io.BytesIO):
    """Goes on counting while what was written is taken out of the sink behind it."""

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__()
        self._sink: Final = sink
        self._position = 0

    def write(self, data: Any) -> int:
        count = self._sink.write(data)
        self._position += count
        return count

    def tell(self) -> int:
        return self._position


_WRITERS: Final = {
    Format.CSV: _CsvFile,
    Format.PARQUET: _parquet_file,
    Format.ARROW: _arrow_file,
}


def _taken(sink: io.BytesIO) -> list[bytes]:
    """What is in the sink, which is empty afterwards."""
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]


def _last_charge(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(CHARGE.c.id))) or 0


def _tenants(connection: sa.Connection) -> Sequence[str]:
    statement = sa.select(WORK.c.tenant).distinct().order_by(WORK.c.tenant)
    return connection.scalars(statement).all()


def _statement(tenant: str, after: tuple[int, int], end: int, last: int) -> sa.Executable:
    place = sa.tuple_(CHARGE.c.called_micros, CHARGE.c.id)
    task = sa.func.coalesce(TASK.c.name, "").label("task")
    return (
        sa.select(
            *(CHARGE.c.tenant, CHARGE.c.key, task, WORK.c.task_type, WORK.c.agent),
            *(CHARGE.c.session, WORK.c.model, WORK.c.tier, CHARGE.c.price_version),
            CHARGE.c.called_micros.label("call_time"),
            CHARGE.c.settled_micros.label("settle_time"),
            *(CHARGE.c[name] for name in FIGURES),
            CHARGE.c.id,
        )
        .join_from(CHARGE, WORK, WORK.c.id == CHARGE.c.work_id)
        .outerjoin(TASK, TASK.c.id == CHARGE.c.task_id)
        .where(CHARGE.c.tenant == tenant, place > sa.tuple_(*after))
        .where(CHARGE.c.called_micros < end, CHARGE.c.id <= last)
        .order_by(CHARGE.c.called_micros, CHARGE.c.id)
        .limit(_BATCH)
    )


def _row(found: Any) -> Row:
    values = list(found)[:-1]
    values[_TIER] = tier_text(values[_TIER])
    for at, name in enumerate(_COLUMNS):
        if name in _TIMES:
            values[at] = time_of(values[at])
    return tuple(values)
