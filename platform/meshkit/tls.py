"""Mutual TLS from files that are renewed while the process runs."""

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
from pydantic import BaseModel, ConfigDict

from meshkit.config import ConfigError

# A renewed certificate is used half of its life before the one before it ends.
_LOOK_EVERY_SECONDS: Final = 10.0

_Pem = tuple[bytes, bytes, bytes]
_Signature = tuple[tuple[int, int, int], ...]


class TlsSettings(BaseModel):
    """The certificate of a process, and whose calls it takes. All files are PEM."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    # The process's certificate, by which it serves and calls.
    certificate: Path
    # Its private key.
    key: Path
    # The authority that has issued the certificates of all whom it talks to.
    authority: Path
    # Who may call: SPIFFE ids as in their certificates. Everybody else is refused.
    peers: tuple[str, ...] = ()


class TlsFiles:
    """The files of a TlsSettings, read again when they were replaced."""

    def __init__(self, settings: TlsSettings) -> None:
        """Reads them. Raises ConfigError where that cannot be done."""
        self._paths: Final = (settings.certificate, settings.key, settings.authority)
        try:
            self._signature: _Signature = self._sign()
            self._pem: _Pem = self._read()
        except OSError as error:
            raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None

    @property
    def pem(self) -> _Pem:
        """Certificate, key and authority, as read last."""
        return self._pem

    def look(self) -> bool:
        """Whether they were replaced since the last look; they have been read again then."""
        try:
            signature = self._sign()
            if signature == self._signature:
                return False
            pem = self._read()
            # Replaced again meanwhile, they might not belong together.
            if self._sign() != signature:
                return False
        except OSError:
            return False  # in the middle of being replaced: the next look finds them
        self._signature, self._pem = signature, pem
        return True

    def _sign(self) -> _Signature:
        found = (os.stat(each) for each in self._paths)
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)

    def _read(self) -> _Pem:
        certificate, key, authority = (each.read_bytes() for each in self._paths)
        return certificate, key, authority


def server_contexts(settings: TlsSettings) -> Callable[[], ssl.SSLContext]:
    """For a server whose clients need certificates: to be asked at each new connection.

    Raises ConfigError where the files cannot be read.
    """
    files = TlsFiles(settings)
    try:
        made: ssl.SSLContext | None = _server_context(settings)
    except ssl.SSLError as error:
        raise ConfigError(f"{settings.certificate}: cannot be used: {error}") from None

    def newest() -> ssl.SSLContext:
        nonlocal made
        if files.look():
            made = None
        if made is None:
            # Amid being replaced they may not belong together: the next connection tries again.
            made = _server_context(settings)
        return made

    return newest


def client_credentials(settings: TlsSettings) -> grpc.ChannelCredentials:
    """For a channel; those of the files as they are now. Raises ConfigError."""
    return _credentials(TlsFiles(settings).pem)


class ClientTls:
    """The credentials of a process's channels: others when its files were replaced."""

    def __init__(
        self,
        settings: TlsSettings,
        *,
        look_every_seconds: float = _LOOK_EVERY_SECONDS,
        monotonic_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError where the files cannot be read."""
        self._settings: Final = settings
        self._files: Final = TlsFiles(settings)
        self._look_every_seconds: Final = look_every_seconds
        self._monotonic_seconds: Final = monotonic_seconds
        self._credentials: grpc.ChannelCredentials | None = None
        self._context: ssl.SSLContext | None = None
        self._look_at = monotonic_seconds() + look_every_seconds

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """The same object until the files are replaced. Cheap: looks at them now and then."""
        self._look()
        if self._credentials is None:
            self._credentials = _credentials(self._files.pem)
        return self._credentials

    def context(self) -> ssl.SSLContext:
        """As `credentials`, for channels on the event loop."""
        self._look()
        if self._context is None:
            self._context = _client_context(self._settings)
        return self._context

    def _look(self) -> None:
        now = self._monotonic_seconds()
        if now >= self._look_at:
            self._look_at = now + self._look_every_seconds
            if self._files.look():
                self._credentials = self._context = None


def _server_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _with_certificate(context, settings)


def _client_context(settings: TlsSettings) -> ssl.SSLContext:
    # It asks for a certificate of the address that is called.
    return _with_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings)


def _with_certificate(context: ssl.SSLContext, settings: TlsSettings) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # HTTP/2 forbids it (RFC 9113, section 9.2.1).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_verify_locations(settings.authority)
    context.load_cert_chain(settings.certificate, settings.key)
    context.set_alpn_protocols(["h2"])
    return context


def _credentials(pem: _Pem) -> grpc.ChannelCredentials:
    certificate, key, authority = pem
    return grpc.ssl_channel_credentials(authority, key, certificate)
