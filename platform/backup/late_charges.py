"""Charges that came while the log was saved: which of them belong to the log as it was saved.

The journal of usage is saved before the log, so that every charge in it is of a step that the
log has, or of the one that was under way. Steps recorded meanwhile have their charges in what
the journal got meanwhile; so have steps that the saved log does not have. The former are
restored, and the latter not: the log is the truth, and it decides. Charges that no task made
are kept.
"""

import base64
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from google.protobuf.message import DecodeError

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from audit import charges, usage_jetstream
from audit.charges import Charge, charge_of
from audit.entry import Entry
from audit.finding import Finding
from audit.log_jetstream import JetStreamLog
from meshkit.bus import Bus

STREAM: Final = usage_jetstream.STREAM
_SUBJECT: Final = usage_jetstream.SUBJECT
# Messages a request.
_BATCH: Final = 1024
# Tasks whose logs are kept for their next charge.
_KEPT_LOGS: Final = 1000


async def collect(bus: Bus, after: int) -> AsyncGenerator[bytes]:
    """What the journal has after that sequence, a line a message."""
    async with aclosing(
        bus.read(STREAM, _SUBJECT, start_sequence=after + 1, batch=_BATCH)
    ) as messages:
        async for message in messages:
            payload = base64.b64encode(message.payload).decode("ascii")
            yield json.dumps({"sequence": message.sequence, "payload": payload}).encode() + b"\n"


class LogReferee:
    """Says which charges agree with the log that was restored, as an audit would."""

    def __init__(self, log: JetStreamLog) -> None:
        """`log`: its horizons were asked for."""
        self._log: Final = log
        self._kept: dict[Any, list[Entry]] = {}

    async def belongs(self, tenant: str, key: str, cost_micros: int | None) -> bool:
        """Whether a charge is to be kept; of one that is yet to be made nobody knows the cost."""
        charge = charge_of(tenant, key, cost_micros or 0)
        if charge is None:
            # Somebody asked a model without a task.
            return True
        log = await self._of(charge)
        if not log:
            return False
        if cost_micros is None:
            charge = charge._replace(cost_micros=_recorded_cost(charge, log))
        # Two, so that one that was made again may cost something else.
        said = charges.judge([charge], log, {charge.place: 2})
        return not any(isinstance(each, Finding) for each in said)

    async def _of(self, charge: Charge) -> list[Entry]:
        if charge.task not in self._kept:
            if len(self._kept) >= _KEPT_LOGS:
                self._kept.clear()
            self._kept[charge.task] = await self._log.of_task(charge.task)
        return self._kept[charge.task]


async def restore(bus: Bus, lines: Iterable[bytes], referee: LogReferee) -> int:
    """Appends to the journal what belongs to the log; how many charges that were."""
    info = await bus.stream_info(STREAM)
    last = int(info["state"]["last_seq"]) if info else 0
    count = 0
    for line in lines:
        values = json.loads(line)
        # What came while the journal itself was saved may be in it already.
        if values["sequence"] <= last:
            continue
        records = [
            record
            for record in _records(base64.b64decode(values["payload"]))
            if await referee.belongs(record.tenant, record.key, record.usage.cost_micros)
        ]
        if records:
            payload = UsageRecords(records=records).SerializeToString()
            await bus.publish(_SUBJECT, payload, message_id=f"restored-{values['sequence']}")
            count += len(records)
    return count


async def waiting_lines(lines: Sequence[bytes], referee: LogReferee) -> list[bytes]:
    """Of reasoning's settlements that waited, those that are still to be made.

    What is no settlement stays for reasoning to look at.
    """
    kept: list[bytes] = []
    for line in lines:
        said = _settlement(line)
        if said is None or await referee.belongs(*said, None):
            kept.append(line)
    return kept


def _settlement(line: bytes) -> tuple[str, str] | None:
    """Tenant and key. See services/reasoning/settlement_file.py."""
    try:
        spending: Mapping[str, Any] = json.loads(line)["spending"]
        return str(spending["tenant"]), str(spending["key"])
    except (ValueError, KeyError, TypeError):
        return None


def _recorded_cost(charge: Charge, log: Sequence[Entry]) -> int:
    """What the log says that the step cost; 0 where it does not have it."""
    for entry in _of_attempt(charge.start, log):
        if charges.step_of(entry) == charge.step:
            return entry.event.usage.cost_micros
    return 0


def _of_attempt(start: int, log: Sequence[Entry]) -> Iterator[Entry]:
    for entry in log:
        if entry.event.sequence > start:
            if entry.kind == "started":
                return
            yield entry


def _records(payload: bytes) -> Sequence[UsageRecord]:
    try:
        return UsageRecords.FromString(payload).records
    except DecodeError:
        return ()
