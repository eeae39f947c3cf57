"""Tests of calling webhooks: over real connections, to receivers that fail in every way."""

import asyncio
import base64
import io
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import log
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshtest.eventually import eventually
from services.governor import alert_stream
from services.governor.alert import Alert, Kind
from services.governor.alert_receiver import Receiver
from services.governor.alert_webhook import Secret
from services.governor.alert_webhook_sender import Retry, WebhookSender
from services.governor.alert_webhook_settings import Webhook
from services.governor.http_post_httpx import HttpxPoster

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_QUICK = Retry(first_seconds=0.01, most_seconds=0.05, limit=4)
# Nobody waits for so long for an answer: it is there, or will never be.
_PATIENT_SECONDS = 60.0
# As long as one that hangs is waited for; one that answers has to do it in this time.
_HANGS_SECONDS = 5.0


class _Mesh:
    """Alerts that are told, and senders that are started and stopped."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.lines = io.StringIO()
        self._count = 0

    async def tell(self, tenant: str = "acme") -> str:
        """One more alert; its id."""
        self._count += 1
        alert = Alert.of_budget(
            Kind.ALERT,
            tenant=tenant,
            budget=f"tenants/{tenant}/budgets/agent-day-a{self._count}",
            window_start=_NOW,
            text=f"Number {self._count}.",
            time=_NOW + timedelta(seconds=self._count),
            spent_micros=self._count,
            limit_micros=100,
        )
        subject = alert_stream.subject(tenant)
        await self.bus.publish(subject, alert_stream.encode(alert), message_id=alert.id)
        return alert.id

    @asynccontextmanager
    async def sending(
        self,
        url: str,
        *,
        name: str = "pager",
        tenants: frozenset[str] = frozenset(),
        retry: Retry = _QUICK,
        timeout_seconds: float = _PATIENT_SECONDS,
    ) -> AsyncGenerator[None]:
        """A sender for a webhook, from when its consumer is there."""
        webhook = Webhook(name, url, Secret.parse(_SECRET), tenants, timeout_seconds)
        async with HttpxPoster() as poster:
            sender = WebhookSender(
                webhook,
                self.bus,
                poster,
                clock=SystemClock(),
                jitter=random.Random(1),
                log=log.get("governor", stream=self.lines),
                retry=retry,
            )
            running = asyncio.create_task(sender.run())
            try:
                await eventually(lambda: self._has_consumer(f"webhook-{name}"))
                yield
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    def logged(self, event: str) -> list[dict[str, object]]:
        """The log's lines of that event, without what differs from run to run."""
        lines = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return [
            {key: each[key] for key in each.keys() - {"time", "service", "again_seconds"}}
            for each in lines
            if each["event"] == event
        ]

    async def _has_consumer(self, durable: str) -> bool:
        infos = self.bus.consumers(alert_stream.STREAM)
        return durable in [info["name"] async for info in infos]


@pytest.fixture
async def mesh(nats_url: str) -> AsyncIterator[_Mesh]:
    async with await Bus.connect(nats_url, name="test") as bus:
        await bus.ensure_stream(alert_stream.stream_spec(90))
        yield _Mesh(bus)


def _ids(receiver: Receiver) -> list[str]:
    return [each.headers["webhook-id"] for each in receiver.received]


def _logged(mesh: _Mesh, event: str) -> Callable[[], bool]:
    return lambda: bool(mesh.logged(event))


async def test_an_alert_is_posted_once(mesh: _Mesh) -> None:
    """A receiver that takes it hears of it once, signed, with the alert as JSON."""
    async with Receiver() as receiver, mesh.sending(receiver.url):
        alert = await mesh.tell()
        other = await mesh.tell("")
        await eventually(lambda: len(mesh.logged("webhook.delivered")) == 2)
    first, second = receiver.received
    assert first.path == "/hook"
    assert json.loads(first.body)["data"]["text"] == "Number 1."
    assert json.loads(first.body)["data"]["sequence"] == 1
    assert _ids(receiver) == [alert, other]
    stamp = first.headers["webhook-timestamp"]
    expected = Secret.parse(_SECRET).sign(alert, stamp, first.body)
    assert first.headers["webhook-signature"] == expected
    assert abs(datetime.now(UTC).timestamp() - int(stamp)) < 60
    assert second.headers["webhook-signature"] != expected
    assert mesh.logged("webhook.delivered")[0] == {
        "level": "info",
        "event": "webhook.delivered",
        "webhook": "pager",
        "id": alert,
        "tries": 1,
    }


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("500", "status 500"),
        ("503 retry-after: 0", "status 503"),
        # A receiver that is being set up says these as well.
        ("401", "status 401"),
        ("404", "status 404"),
        ("429", "status 429"),
        ("302 location: /elsewhere", "status 302"),
        ("307 location: http://127.0.0.1:1/", "status 307"),
        ("hang", "no answer within 5 s"),
        ("drip", "no answer within 5 s"),
        ("close", "RemoteProtocolError"),
        ("garbage", "RemoteProtocolError"),
    ],
)
async def test_what_was_not_taken_is_sent_again(mesh: _Mesh, fault: str, cause: str) -> None:
    """After any such answer, or none, the same alert comes again; redirects are not followed."""
    seconds = _HANGS_SECONDS if fault in ("hang", "drip") else _PATIENT_SECONDS
    async with (
        Receiver(fault) as receiver,
        mesh.sending(receiver.url, timeout_seconds=seconds),
    ):
        alert = await mesh.tell()
        await eventually(_logged(mesh, "webhook.delivered"))
    assert _ids(receiver) == [alert, alert]
    assert [each.path for each in receiver.received] == ["/hook", "/hook"]
    assert receiver.received[0].body == receiver.received[1].body
    [line] = mesh.logged("webhook.not_delivered")
    assert line["cause"] == cause
    assert mesh.logged("webhook.delivered")[0]["tries"] == 2


async def test_sending_again_has_an_end(mesh: _Mesh) -> None:
    """After the last try the alert is given up, with an error in the log."""
    async with Receiver(*["500"] * 4) as receiver, mesh.sending(receiver.url):
        hopeless = await mesh.tell()
        await eventually(_logged(mesh, "webhook.given_up"))
        taken = await mesh.tell()
        await eventually(_logged(mesh, "webhook.delivered"))
    assert _ids(receiver) == [hopeless] * 4 + [taken]
    [line] = mesh.logged("webhook.given_up")
    assert (line["level"], line["id"], line["tries"]) == ("error", hopeless, 4)


async def test_nobody_listening_is_tried_again(mesh: _Mesh) -> None:
    """A receiver that is not there is like one that fails."""
    async with Receiver() as receiver:
        url = receiver.url
    async with mesh.sending(url):
        await mesh.tell()
        await eventually(_logged(mesh, "webhook.given_up"))
    assert {line["cause"] for line in mesh.logged("webhook.not_delivered")} == {"ConnectError"}


async def test_one_that_hangs_holds_up_nobody_else(mesh: _Mesh) -> None:
    """While one webhook hangs with its first alert, another has all of them."""
    async with (
        Receiver("hang") as hanging,
        Receiver() as quick,
        mesh.sending(hanging.url, name="hanging"),
        mesh.sending(quick.url, name="quick"),
    ):
        told = [await mesh.tell() for _ in range(20)]
        await eventually(lambda: len(mesh.logged("webhook.delivered")) == 20)
        assert sorted(_ids(quick)) == sorted(told)
        assert {line["webhook"] for line in mesh.logged("webhook.delivered")} == {"quick"}
        assert len(hanging.received) == 1
        assert mesh.logged("webhook.not_delivered") == []


async def test_one_alert_that_is_not_taken_holds_up_no_other(mesh: _Mesh) -> None:
    """What is to be tried again waits by itself; later alerts pass it."""
    async with (
        Receiver("503 retry-after: 3600") as receiver,
        mesh.sending(receiver.url, retry=Retry()),
    ):
        first = await mesh.tell()
        await eventually(_logged(mesh, "webhook.not_delivered"))
        later = [await mesh.tell() for _ in range(3)]
        await eventually(lambda: len(mesh.logged("webhook.delivered")) == 3)
    assert _ids(receiver) == [first, *later]
    assert '"again_seconds":3600' in mesh.lines.getvalue()


async def test_a_webhook_is_told_of_its_tenants_alone(mesh: _Mesh) -> None:
    """One for some tenants hears neither of others, nor of what concerns all together."""
    async with (
        Receiver() as receiver,
        mesh.sending(receiver.url, tenants=frozenset({"acme", "initech"})),
    ):
        for tenant in ("globex", "", "acme", "globex", "initech"):
            await mesh.tell(tenant)
        await eventually(lambda: len(receiver.received) == 2)
    tenants = [json.loads(each.body)["data"]["tenant"] for each in receiver.received]
    assert tenants == ["acme", "initech"]


async def test_a_webhook_begins_with_what_comes(mesh: _Mesh) -> None:
    """One that is set up now is not told of the past."""
    await mesh.tell()
    async with Receiver() as receiver, mesh.sending(receiver.url):
        alert = await mesh.tell()
        await eventually(_logged(mesh, "webhook.delivered"))
    assert _ids(receiver) == [alert]


async def test_a_restart_loses_nothing_and_repeats_only_the_call_under_way(mesh: _Mesh) -> None:
    """What was told while nobody ran is sent, and what was under way is sent again."""
    async with Receiver("204", "hang") as receiver:
        async with mesh.sending(receiver.url, timeout_seconds=_HANGS_SECONDS):
            taken = await mesh.tell()
            under_way = await mesh.tell()
            await eventually(lambda: len(receiver.received) == 2)
        later = [await mesh.tell() for _ in range(5)]
        async with mesh.sending(receiver.url, timeout_seconds=_HANGS_SECONDS):
            await eventually(lambda: len(receiver.received) == 8)
            await eventually(lambda: len(mesh.logged("webhook.delivered")) == 7)
    assert _ids(receiver)[:2] == [taken, under_way]
    assert sorted(_ids(receiver)[2:]) == sorted([under_way, *later])


async def test_two_processes_share_the_work(mesh: _Mesh) -> None:
    """With several governors each alert is sent by one of them."""
    async with (
        Receiver() as receiver,
        mesh.sending(receiver.url),
        mesh.sending(receiver.url),
    ):
        told = [await mesh.tell() for _ in range(30)]
        await eventually(lambda: len(mesh.logged("webhook.delivered")) == 30)
    assert sorted(_ids(receiver)) == sorted(told)


async def test_no_secret_and_no_address_is_logged(mesh: _Mesh) -> None:
    """What only the receiver should know stays out of the log, whatever fails."""
    async with (
        Receiver("500", "hang", "404") as receiver,
        mesh.sending(receiver.url, timeout_seconds=_HANGS_SECONDS),
    ):
        await mesh.tell()
        await eventually(_logged(mesh, "webhook.delivered"))
    assert "/hook" not in mesh.lines.getvalue()
    assert _SECRET[6:14] not in mesh.lines.getvalue()


@given(st.integers(1, 100), st.integers(0, 2**32))
def test_tries_are_spread_over_growing_times(tries: int, seed: int) -> None:
    """Full jitter: between 0 and twice the time of before, an hour at most, with an end."""
    retry = Retry()
    delay = retry.delay_seconds(tries, random.Random(seed))
    if tries >= 16:
        assert delay is None
    else:
        assert delay is not None
        assert 0 <= delay <= min(3600, 2**tries)


def test_all_tries_take_a_few_hours() -> None:
    """The last try is two to three hours after the first, on average."""
    jitter = random.Random(7)
    totals = [
        sum(Retry().delay_seconds(tries, jitter) or 0 for tries in range(1, 17))
        for _ in range(1000)
    ]
    assert 2 * 3600 < sum(totals) / len(totals) < 3 * 3600
