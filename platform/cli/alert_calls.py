"""The calls of `agentmesh alerts`, and what they print."""

from collections.abc import Mapping
from datetime import UTC
from typing import Final

from agentmesh.governor.v1.cost_governor_service_pb2 import WatchAlertsResponse
from cli import alert_watch
from cli.alert_watch import Wanted
from cli.async_run import run as run_async
from cli.gateway import Gateway, call, connect
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.terminal import Styled
from cli.wording import dollars, moment

_STYLES: Final[Mapping[str, str]] = {
    "ALERT": "yellow",
    "DEGRADE": "yellow",
    "THROTTLE": "magenta",
    "SHUTOFF": "bold red",
    "VELOCITY": "cyan",
    "ANOMALY": "magenta",
}
_ALL_TOGETHER: Final = "(all)"


def show(invocation: Invocation, wanted: Wanted) -> None:
    """Prints what there is, the newest last."""

    async def run(gateway: Gateway) -> list[WatchAlertsResponse]:
        found, _ = await alert_watch.past(gateway, wanted)
        return found

    alerts = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"alerts": [to_plain(each) for each in alerts]})
    elif alerts:
        invocation.terminal.table(
            ("SEQUENCE", "TIME", "KIND", "TENANT", "SPENT", "OF", "WHAT HAPPENED"),
            [
                (
                    str(each.sequence),
                    _time(each),
                    Styled(each.kind, _STYLES.get(each.kind, "")),
                    each.tenant or _ALL_TOGETHER,
                    dollars(each.spent_micros),
                    dollars(each.limit_micros),
                    each.text,
                )
                for each in alerts
            ],
            right=("SEQUENCE", "SPENT", "OF"),
        )
    else:
        invocation.terminal.progress(f"{_none(wanted)}.")


def follow(invocation: Invocation, wanted: Wanted) -> None:
    """Prints the last of what there is, and then what comes."""

    async def run() -> None:
        async with connect(address_of(invocation), tenant=invocation.tenant) as gateway:
            alerts, position = await alert_watch.past(gateway, wanted)
            for alert in alerts:
                _print(invocation, alert)
            if not alerts:
                invocation.terminal.progress(f"{_none(wanted)} yet.")
            async for alert in alert_watch.coming(gateway, wanted, position):
                _print(invocation, alert)

    run_async(run())


def _print(invocation: Invocation, alert: WatchAlertsResponse) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.line(to_plain(alert))
        return
    invocation.terminal.say(
        f"{_time(alert)}  {alert.kind:<8}  {alert.text}", style=_STYLES.get(alert.kind, "")
    )


def _none(wanted: Wanted) -> str:
    narrowed = wanted.kinds or wanted.after or wanted.limit == 0
    return "There are no such alerts" if narrowed else "There are no alerts"


def _time(alert: WatchAlertsResponse) -> str:
    return moment(alert.time.ToDatetime(tzinfo=UTC))
