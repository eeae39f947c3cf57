"""Alerts as a governor has them: what finds, tells and gives them out."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from meshkit.service import Resources
from services.governor import alert_stream
from services.governor.account import Decision, Wish
from services.governor.alert_feed import AlertFeed
from services.governor.alert_recorder import AlertRecorder
from services.governor.alert_sightings import AlertSightings
from services.governor.alert_store_sql import Database, SqlAlerts
from services.governor.alert_teller import AlertTeller
from services.governor.alert_webhook_sender import WebhookSender
from services.governor.alert_webhook_settings import Webhook, WebhookSettings, webhooks


@dataclass(frozen=True, slots=True)
class AlertParts:
    """What is made of the ledger's database and the broker."""

    feed: AlertFeed
    # Is told what the governor decides.
    notice: Callable[[Wish, Decision], None]
    # What tells them, until cancelled.
    background: Sequence[Callable[[], Awaitable[None]]]


async def build_alerts(
    resources: Resources,
    recorder: AlertRecorder,
    database: Database,
    *,
    keep_days: int,
    webhook_settings: Mapping[str, WebhookSettings],
    environ: Mapping[str, str],
) -> AlertParts:
    """Tells what `recorder` records in `database`.

    Raises:
        ConfigError: A webhook cannot work.
        DependencyUnavailable: The broker is away.
    """
    called = webhooks(webhook_settings, environ)
    await resources.bus.ensure_stream(alert_stream.stream_spec(keep_days))
    teller = AlertTeller(resources.bus, SqlAlerts(database), resources.log)
    recorder.on_recorded(teller.wake)
    sightings = AlertSightings(database, resources.clock, resources.log, recorded=teller.wake)
    senders = await _senders(resources, called) if called else []
    return AlertParts(
        feed=AlertFeed(resources.bus),
        notice=sightings.notice,
        background=[teller.run, sightings.run, *(sender.run for sender in senders)],
    )


async def _senders(resources: Resources, called: Sequence[Webhook]) -> list[WebhookSender]:
    # Where nobody is to be called, its library is not loaded.
    from services.governor.http_post_httpx import HttpxPoster

    poster = await resources.stack.enter_async_context(HttpxPoster())
    return [
        WebhookSender(
            webhook,
            resources.bus,
            poster,
            clock=resources.clock,
            jitter=random.Random(resources.ids.new()),
            log=resources.log,
        )
        for webhook in called
    ]
