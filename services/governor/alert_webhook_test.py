"""Tests of what a webhook is sent, and of its settings."""

import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.config import ConfigError
from services.governor import alert_webhook
from services.governor.alert_webhook import Secret
from services.governor.alert_webhook_settings import WebhookSettings, webhooks

_KEY = bytes(range(32))
_SECRET = "whsec_" + base64.b64encode(_KEY).decode()
_NOW = datetime(2026, 11, 20, 15, 30, 0, 250_000, tzinfo=UTC)
_PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"


def _recipe() -> Any:
    """The function `verify` that the page gives to receivers, with a clock of the test."""
    [code] = re.findall(r"```python\n(.*?)```", _PAGE.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    # It is ours, and meant to be copied.
    exec(code, names)
    names["time"] = type("Clock", (), {"time": staticmethod(_NOW.timestamp)})
    return names["verify"]


def test_the_body_is_the_alert() -> None:
    """The JSON has the type and time of an event, and all that is told in its data."""
    alert = pb.WatchAlertsResponse(
        budget="tenants/acme/budgets/tenant-day",
        kind="DEGRADE",
        text="Four fifths are spent: “8 €”.",
        sequence=7,
        tenant="acme",
        id="01abc",
        spent_micros=8,
        limit_micros=10,
    )
    alert.time.FromDatetime(_NOW)
    assert json.loads(alert_webhook.body(alert)) == {
        "type": "budget.degrade",
        "timestamp": "2026-11-20T15:30:00.250Z",
        "data": {
            "id": "01abc",
            "sequence": 7,
            "kind": "DEGRADE",
            "tenant": "acme",
            "budget": "tenants/acme/budgets/tenant-day",
            "text": "Four fifths are spent: “8 €”.",
            "spent_micros": 8,
            "limit_micros": 10,
        },
    }


def test_the_headers_are_those_of_standard_webhooks() -> None:
    """The signature is the HMAC-SHA256 over id, time and body, in Base64, with its version."""
    headers = alert_webhook.headers("01abc", _NOW, b"{}", Secret.parse(_SECRET))
    mac = hmac.new(_KEY, b"01abc.1795188600.{}", hashlib.sha256).digest()
    assert headers == {
        "content-type": "application/json",
        "user-agent": "agentmesh-governor",
        "webhook-id": "01abc",
        "webhook-timestamp": "1795188600",
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


@given(st.binary(min_size=24, max_size=64), st.text("abc012", min_size=1), st.binary())
def test_the_recipe_of_the_page_accepts_what_is_sent(key: bytes, alert: str, body: bytes) -> None:
    """A receiver that follows the page takes every message, whatever secret and body."""
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = alert_webhook.headers(alert, _NOW, body, Secret.parse(secret))
    _recipe()(secret, headers, body)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"webhook-id": "01abd"}, "not from the governor"),
        ({"webhook-timestamp": "1795188601"}, "not from the governor"),
        ({"webhook-timestamp": "1795188000"}, "too old"),
        ({"webhook-timestamp": "1795189200"}, "too old"),
        ({"webhook-signature": "v1,AAAA"}, "not from the governor"),
        ({"body": b"{} "}, "not from the governor"),
        ({"secret": "whsec_" + base64.b64encode(bytes(32)).decode()}, "not from the governor"),
    ],
)
def test_the_recipe_of_the_page_refuses_anything_else(changed: dict[str, Any], why: str) -> None:
    """Another id, time, body or secret is not the governor's word; nor is an old one."""
    headers = alert_webhook.headers("01abc", _NOW, b"{}", Secret.parse(_SECRET))
    body, secret = changed.pop("body", b"{}"), changed.pop("secret", _SECRET)
    with pytest.raises(ValueError, match=why):
        _recipe()(secret, {**headers, **changed}, body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "geheim",
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_ä" + base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(32)).decode()[:-1],
        base64.b64encode(bytes(32)).decode(),
    ],
)
def test_a_secret_that_is_too_weak_is_refused(text: str) -> None:
    """Anything but whsec_ and the Base64 of 24 to 64 bytes is refused, and not repeated."""
    with pytest.raises(ValueError, match="whsec_") as refused:
        Secret.parse(text)
    assert str(refused.value) == "must be whsec_ and then the Base64 of 24 to 64 bytes"


def test_a_secret_shows_itself_nowhere() -> None:
    """Neither its text nor its representation has the key."""
    secret = Secret.parse(_SECRET)
    for text in (str(secret), repr(secret), f"{secret}"):
        assert _SECRET[6:12] not in text
        assert repr(_KEY)[2:10] not in text


def test_a_webhook_has_its_secret_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """Either source is read at start; a file may end with a line break."""
    file = tmp_path / "secret"
    file.write_text(_SECRET + "\n")
    made = webhooks(
        {
            "pager": WebhookSettings(url="https://example.org/a", secret_env="PAGER"),
            "chat": WebhookSettings(
                url="http://127.0.0.1:1/b", secret_file=file, tenants=frozenset({"acme"})
            ),
        },
        {"PAGER": _SECRET},
    )
    assert [each.name for each in made] == ["pager", "chat"]
    assert {each.secret.sign("a", "1", b"") for each in made} == {
        Secret.parse(_SECRET).sign("a", "1", b"")
    }
    pager, chat = made
    assert (pager.wants("globex"), pager.wants("")) == (True, True)
    assert (chat.wants("acme"), chat.wants("globex"), chat.wants("")) == (True, False, False)


@pytest.mark.parametrize(
    ("name", "given", "environ", "message"),
    [
        (
            "Pager",
            {"secret_env": "PAGER"},
            {"PAGER": _SECRET},
            "governor.alert_webhooks: the name 'Pager' must be 1 to 63 lower-case letters, digits"
            " or hyphens, no hyphen first",
        ),
        (
            "pager",
            {},
            {},
            "governor.alert_webhooks.pager: must have secret_env or secret_file, one of them",
        ),
        (
            "pager",
            {"secret_env": "PAGER", "secret_file": Path("/x")},
            {"PAGER": _SECRET},
            "governor.alert_webhooks.pager: must have secret_env or secret_file, one of them",
        ),
        (
            "pager",
            {"secret_env": "PAGER"},
            {},
            "governor.alert_webhooks.pager.secret_env: the variable PAGER is not set",
        ),
        (
            "pager",
            {"secret_env": _SECRET},
            {},
            "governor.alert_webhooks.pager.secret_env: must name a variable, not be the secret"
            " itself",
        ),
        (
            "pager",
            {"secret_file": Path("/nowhere/secret")},
            {},
            "governor.alert_webhooks.pager.secret_file: cannot read /nowhere/secret:"
            " No such file or directory",
        ),
        (
            "pager",
            {"secret_env": "PAGER"},
            {"PAGER": "1234"},
            "governor.alert_webhooks.pager: the secret in PAGER must be whsec_ and then the Base64"
            " of 24 to 64 bytes",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(
    name: str, given: dict[str, Any], environ: dict[str, str], message: str
) -> None:
    """One line says which webhook is wrong and how, without its secret."""
    settings = WebhookSettings(url="https://example.org/", **given)
    with pytest.raises(ConfigError) as refused:
        webhooks({name: settings}, environ)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://example.org"}, "must be like https://HOST/PATH"),
        ({"url": "https://"}, "must be like https://HOST/PATH"),
        ({"url": "example.org/hook"}, "must be like https://HOST/PATH"),
        (
            {"url": "https://me:secret@example.org"},
            "must hold no user and no password: calls are signed instead",
        ),
        ({"url": "https://a:99999/b"}, "must have a port from 1 to 65535, or none"),
        ({"url": "https://a:b/c"}, "must have a port from 1 to 65535, or none"),
        ({"url": "https://a:0"}, "must have a port from 1 to 65535, or none"),
        ({"url": "https://a", "tenants": ["Acme"]}, "String should match pattern"),
        ({"url": "https://a", "timeout_seconds": 0}, "Input should be greater than 0"),
        ({"url": "https://a", "timeout_seconds": 61}, "Input should be less than or equal to 60"),
        ({"url": "https://a", "password": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    """Addresses, tenants and times are checked as they are read."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        WebhookSettings.model_validate(settings)
