"""Calls a webhook for every alert that it is to be told of.

The broker keeps what is delivered, for each webhook by itself. One call is under way at a
time; what was not taken is tried again later, and holds up neither other alerts nor others.
"""

import asyncio
import random
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from google.protobuf.message import DecodeError

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.bus import Bus, ConsumerSpec, Delivery
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.log import Log
from services.governor import alert_stream, alert_webhook
from services.governor.alert_webhook_settings import Webhook

# How long after the end of a call that died with its process it is made again.
_TAKEN_UP_SECONDS: Final = 2.0
# How many may wait for their next try. Others wait in the stream.
_MAX_PENDING: Final = 1000
# A webhook that nobody calls any more is forgotten, and with it what it was told.
_FORGET_SECONDS: Final = 30 * 86_400.0
_PAUSE_SECONDS: Final = 1.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    # How long to wait before the next try, where the receiver says; else 0.
    retry_after_seconds: float = 0.0


class NotAnswered(Exception):
    """No answer came: nobody there, too late, or not to be understood."""


class Poster(Protocol):
    """Makes calls over HTTP."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float
    ) -> Answer:
        """Posts and gives the answer, whatever its status; follows no redirect.

        Raises:
            NotAnswered: There is none within the time.
        """
        ...


class Retry(NamedTuple):
    """When to try again: exponential backoff with full jitter, and an end.

    By these figures the last try is about two and a half hours after the first.
    """

    first_seconds: float = 1.0
    most_seconds: float = 3600.0
    # Tries in all.
    limit: int = 16

    def delay_seconds(self, tries: int, jitter: random.Random) -> float | None:
        """How long to wait after so many tries; None to give up."""
        if tries >= self.limit:
            return None
        return jitter.uniform(0, min(self.most_seconds, self.first_seconds * 2**tries))


_RETRY: Final = Retry()


class WebhookSender:
    """Keeps one webhook told. Several processes may, and share the work."""

    def __init__(
        self,
        webhook: Webhook,
        bus: Bus,
        poster: Poster,
        *,
        clock: Clock,
        jitter: random.Random,
        log: Log,
        retry: Retry = _RETRY,
    ) -> None:
        self._webhook: Final = webhook
        self._bus: Final = bus
        self._poster: Final = poster
        self._clock: Final = clock
        self._jitter: Final = jitter
        # Not its address: that may hold what only its receiver should know.
        self._log: Final = log.bind(webhook=webhook.name)
        self._retry: Final = retry

    async def run(self) -> None:
        """Runs until cancelled, whatever fails."""
        spec = ConsumerSpec(
            stream=alert_stream.STREAM,
            durable=f"webhook-{self._webhook.name}",
            subject_filter=alert_stream.ALL,
            acknowledge_wait_seconds=self._webhook.timeout_seconds + _TAKEN_UP_SECONDS,
            max_acknowledge_pending=_MAX_PENDING,
            description="Alerts that a webhook has been told of.",
            inactive_seconds=_FORGET_SECONDS,
            only_new=True,
        )
        while True:
            try:
                async with aclosing(self._bus.consume(spec, max_in_flight=1)) as deliveries:
                    async for delivery in deliveries:
                        await self._deliver(delivery)
            except MeshError as error:
                self._log.error("webhook.failed", error=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            alert = pb.WatchAlertsResponse.FromString(delivery.payload)
        except DecodeError:
            self._log.error("webhook.unreadable", sequence=delivery.sequence)
            await delivery.reject()
            return
        if not self._webhook.wants(alert.tenant):
            await delivery.acknowledge()
            return
        alert.sequence = delivery.sequence
        content = alert_webhook.body(alert)
        headers = alert_webhook.headers(alert.id, self._clock.now(), content, self._webhook.secret)
        try:
            answer = await self._poster.post(
                self._webhook.url,
                headers,
                content,
                timeout_seconds=self._webhook.timeout_seconds,
            )
        except NotAnswered as error:
            await self._again(delivery, alert, str(error))
            return
        if 200 <= answer.status < 300:
            self._log.info("webhook.delivered", id=alert.id, tries=delivery.delivery_count)
            await delivery.acknowledge()
        else:
            # Whatever it is: a receiver that is being set up says 401 and 404 as well.
            await self._again(
                delivery, alert, f"status {answer.status}", at_least=answer.retry_after_seconds
            )

    async def _again(
        self,
        delivery: Delivery,
        alert: pb.WatchAlertsResponse,
        why: str,
        *,
        at_least: float = 0.0,
    ) -> None:
        tries = delivery.delivery_count
        delay = self._retry.delay_seconds(tries, self._jitter)
        if delay is None:
            self._log.error("webhook.given_up", id=alert.id, tries=tries, cause=why)
            await delivery.reject()
            return
        delay = min(max(delay, at_least), self._retry.most_seconds)
        self._log.warning(
            "webhook.not_delivered", id=alert.id, tries=tries, cause=why, again_seconds=delay
        )
        await delivery.not_now(delay)
