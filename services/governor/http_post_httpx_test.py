"""Tests of calls over HTTP: what a receiver does to them ends the call and nothing else."""

import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import pytest
import trustme

from services.governor.alert_receiver import Receiver
from services.governor.alert_webhook_sender import Answer, NotAnswered
from services.governor.http_post_httpx import HttpxPoster

_HOST = "127.0.0.1"
_PATIENT_SECONDS = 60.0
_HANGS_SECONDS = 5.0


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One whose certificates this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority"))
    return made


@contextmanager
def _receiver(
    authority: trustme.CA, serve: Callable[[ssl.SSLSocket], None], *, asks_for_certificate: bool
) -> Generator[str]:
    """The address of one that serves one connection over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cast(Any, authority.issue_cert(_HOST)).configure_cert(context)
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        cast(Any, authority).configure_trust(context)

    def accept() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ) as secured:
            # Until the caller has gone: what it sent and nobody read would break the connection
            # before the caller has heard why.
            with suppress(OSError):
                serve(secured)
            while socket.socket.recv(secured, 65_536):
                pass

    with socket.create_server((_HOST, 0)) as listener:
        serving = Thread(target=accept)
        serving.start()
        yield f"https://{_HOST}:{listener.getsockname()[1]}/hook"
        serving.join()


def _refuse(secured: ssl.SSLSocket) -> None:
    secured.do_handshake()


def _break(secured: ssl.SSLSocket) -> None:
    secured.do_handshake()
    secured.recv(1)
    # Past the encryption.
    socket.socket.sendall(secured, b"HTTP/1.1 200 OK\r\n\r\n")


async def _post(url: str) -> Answer:
    async with HttpxPoster() as poster:
        return await poster.post(url, {}, b"{}", timeout_seconds=_PATIENT_SECONDS)


@pytest.mark.parametrize(
    ("serve", "asks_for_certificate"),
    [(_refuse, True), (_break, False)],
    ids=["asks for a certificate", "answers without encryption"],
)
async def test_a_receiver_that_ends_tls_has_not_answered(
    authority: trustme.CA, serve: Callable[[ssl.SSLSocket], None], asks_for_certificate: bool
) -> None:
    """With TLS 1.3 it can refuse after the handshake: that is no answer, and is tried again."""
    with (
        _receiver(authority, serve, asks_for_certificate=asks_for_certificate) as url,
        pytest.raises(NotAnswered, match="SSLError"),
    ):
        await _post(url)


async def test_a_receiver_that_nobody_vouches_for_is_told_nothing(authority: trustme.CA) -> None:
    """Its certificate must be of an authority that the machine trusts."""
    with (
        _receiver(trustme.CA(), _refuse, asks_for_certificate=False) as url,
        pytest.raises(NotAnswered, match="ConnectError"),
    ):
        await _post(url)


async def test_what_a_receiver_sets_is_not_sent_again() -> None:
    """No call has cookies of an earlier one: another webhook may be on the same host."""
    async with Receiver("200 set-cookie: one=1; path=/") as receiver, HttpxPoster() as poster:
        for _ in range(2):
            await poster.post(receiver.url, {}, b"{}", timeout_seconds=_PATIENT_SECONDS)
    assert [each.headers.get("cookie") for each in receiver.received] == [None, None]


async def test_a_name_that_nobody_answers_for_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often it is tried: its lookups, which cannot be ended, are one at a time."""
    released, looked_up, known = Event(), list[str](), socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        if host == "silent.example":
            looked_up.append(host)
            released.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Nobody answers.")
        return known(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with Receiver() as receiver, HttpxPoster() as poster:
        try:
            # More than there are threads for everybody.
            for _ in range(40):
                with pytest.raises(NotAnswered, match=r"no answer within 0\.02 s"):
                    await poster.post("http://silent.example/", {}, b"{}", timeout_seconds=0.02)
            url = receiver.url.replace(_HOST, "localhost")
            answer = await poster.post(url, {}, b"{}", timeout_seconds=_HANGS_SECONDS)
            assert (answer.status, looked_up) == (204, ["silent.example"])
        finally:
            released.set()
        with pytest.raises(NotAnswered, match="gaierror"):
            await poster.post("http://silent.example/", {}, b"{}", timeout_seconds=_PATIENT_SECONDS)
