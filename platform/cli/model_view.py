"""How models, and checks of them, are shown."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from agentmesh.reasoning.v1.model_pb2 import (
    BREAKER_STATE_UNSPECIFIED,
    MODEL_KIND_EMBEDDER,
    BreakerState,
    Model,
    ModelState,
)
from agentmesh.reasoning.v1.reasoning_service_pb2 import CheckModelResponse
from cli.event_line import tier_name
from cli.plain import to_plain
from cli.terminal import Styled, Terminal
from cli.wording import dollars, plural, seconds
from meshkit.errors import from_status

_STATES: Final = {
    ModelState.MODEL_STATE_READY: Styled("ready", "green"),
    ModelState.MODEL_STATE_UNAVAILABLE: Styled("unavailable", "red"),
    ModelState.MODEL_STATE_NOT_CONFIGURED: Styled("not configured", "yellow"),
}
_BREAKERS: Final = {
    BreakerState.BREAKER_STATE_CLOSED: Styled("closed", "green"),
    BreakerState.BREAKER_STATE_OPEN: Styled("open", "red"),
    BreakerState.BREAKER_STATE_HALF_OPEN: Styled("half-open", "yellow"),
}
_NONE: Final = "-"


def show_models(terminal: Terminal, models: Sequence[Model]) -> None:
    """Prints models as a table, prices in dollars per million tokens."""
    columns = (
        "MODEL",
        "PROVIDER",
        "TIER",
        "HEALTH",
        "BREAKER",
        "CONTEXT",
        "IN/M",
        "CACHED/M",
        "OUT/M",
        "ABOUT",
    )
    terminal.table(columns, [_row(each) for each in models], right=columns[5:9])


def failed(checked: CheckModelResponse) -> bool:
    """Whether the model did not answer."""
    return checked.HasField("error")


def checked_line(checked: CheckModelResponse) -> str:
    """What came of a check, in a line."""
    name = checked.model.name
    if failed(checked):
        return f"{name}: {from_status(checked.error).message}"
    return f"{name}: answered in {seconds(_latency(checked))}"


def show_checks(terminal: Terminal, found: Sequence[CheckModelResponse]) -> None:
    """Prints what came of checks, as a table and a sentence."""
    columns = ("MODEL", "PROVIDER", "RESULT", "LATENCY", "FIRST TOKEN", "TOKENS", "COST", "WHY")
    terminal.table(columns, [_check_row(each) for each in found], right=columns[3:7])
    bad = sum(map(failed, found))
    if bad:
        terminal.say(f"{plural(bad, 'model')} of {len(found)} failed.", style="bold red")


def checks_document(found: Sequence[CheckModelResponse]) -> dict[str, Any]:
    """What came of checks, as JSON."""
    return {
        "models": [
            {
                "model": each.model.name,
                "ok": not failed(each),
                "latency_ms": _ms(each, "latency"),
                "first_token_ms": _ms(each, "first_token_latency"),
                "usage": to_plain(each.usage),
                "error": to_plain(each.error) if failed(each) else None,
                "details": to_plain(each.model),
            }
            for each in found
        ],
        "failed": sum(map(failed, found)),
    }


def _row(model: Model) -> tuple[str | Styled, ...]:
    embeds = model.kind == MODEL_KIND_EMBEDDER
    breaker = model.breaker != BREAKER_STATE_UNSPECIFIED
    return (
        model.name,
        model.provider,
        "embedder" if embeds else tier_name(model.tier) or _NONE,
        _STATES.get(model.state, Styled("unknown", "")),
        _BREAKERS.get(model.breaker, Styled(_NONE, "")) if breaker else _NONE,
        f"{model.context_tokens:,}",
        dollars(model.input_price_micros_per_million),
        dollars(model.cached_input_price_micros_per_million),
        dollars(model.output_price_micros_per_million),
        model.state_reason or model.description,
    )


def _check_row(checked: CheckModelResponse) -> tuple[str | Styled, ...]:
    model, usage = checked.model, checked.usage
    if failed(checked):
        error = from_status(checked.error)
        took = seconds(_latency(checked)) if _latency(checked) else _NONE
        result = Styled("failed", "bold red")
        return (model.name, model.provider, result, took, _NONE, _NONE, _NONE, error.message)
    first = checked.HasField("first_token_latency")
    return (
        model.name,
        model.provider,
        Styled("ok", "green"),
        seconds(_latency(checked)),
        seconds(_first_token(checked)) if first else _NONE,
        f"{usage.input_tokens + usage.output_tokens:,}",
        dollars(usage.cost_micros),
        "",
    )


def _ms(checked: CheckModelResponse, field: Literal["latency", "first_token_latency"]) -> Any:
    """A time in milliseconds; None where it is not set."""
    return getattr(checked, field).ToMicroseconds() / 1e3 if checked.HasField(field) else None


def _latency(checked: CheckModelResponse) -> float:
    """Seconds."""
    return checked.latency.ToMicroseconds() / 1e6


def _first_token(checked: CheckModelResponse) -> float:
    """Seconds."""
    return checked.first_token_latency.ToMicroseconds() / 1e6
