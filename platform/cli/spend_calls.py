"""The call of `agentmesh spend`, and what it prints."""

from datetime import UTC

from agentmesh.governor.v1.cost_governor_service_pb2 import (
    GetSpendRequest,
    GetSpendResponse,
    SpendWindow,
)
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.wording import dollars, moment


def show_spend(invocation: Invocation) -> None:
    """Prints what the tenant spent."""

    async def run(gateway: Gateway) -> GetSpendResponse:
        request = GetSpendRequest(parent=invocation.parent)
        return await gateway.governor.GetSpend(request, timeout=CALL_SECONDS)

    answer = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document(to_plain(answer))
        return
    invocation.terminal.table(
        (
            "WINDOW",
            "SPENT",
            "RESERVED",
            "LIMIT",
            "TOKENS IN",
            "TOKENS OUT",
            "MODEL CALLS",
            "RESETS",
        ),
        [_row("today", answer.day), _row("this month", answer.month)],
        right=("SPENT", "RESERVED", "LIMIT", "TOKENS IN", "TOKENS OUT", "MODEL CALLS"),
    )


def _row(name: str, window: SpendWindow) -> tuple[str, ...]:
    usage = window.usage
    resets = (
        moment(window.resets_at.ToDatetime(tzinfo=UTC)) if window.HasField("resets_at") else "-"
    )
    return (
        name,
        dollars(window.spent_micros),
        dollars(window.reserved_micros),
        dollars(window.limit_micros) if window.limit_micros else "none",
        f"{usage.input_tokens:,}",
        f"{usage.output_tokens:,}",
        f"{usage.model_calls:,}",
        resets,
    )
