"""Channels to other services."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import grpc

from meshkit import constants
from meshkit.renewed_channel import Credentials, RenewedChannel
from meshkit.rpc_channel import RpcChannel
from meshkit.tls import ClientTls
from meshwire.channel import Reach, WireChannel


class Channels:
    """One channel for each service that this process calls. An async context manager.

    Channels are made at first use, inside the event loop. The caller of every
    call is `caller`; the tenant is that of the identity in use.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        caller: str,
        patience_seconds: float = 0.0,
        single_address: bool = False,
        tls: Credentials | None = None,
        bearer: str = "",
    ) -> None:
        """`targets`: address by service name. `caller`: such as `service:executor`.

        `patience_seconds`: how long a call waits, within its own time, for a
        peer that cannot be reached, such as one that is being restarted.

        `single_address`: at each target is a proxy, which repeats what reached no handler, or
        one server of ours. Calls are made on the event loop itself then; gRPC's own channels
        know names of many addresses, and the environment's proxies.

        `tls`: whom calls are made as, to targets whose certificates are for their address.

        `bearer`: an API key or a token that every call shows; for callers from outside.
        """
        self._targets: Final = targets
        self._caller: Final = caller
        self._patience_seconds: Final = patience_seconds
        self._tls: Final = tls
        self._bearer: Final = bearer
        self._single_address: Final = single_address
        self._options: Final = _options()
        if tls is None:
            self._options.append(constants.NO_HTTP_PROXY)
        self._open: dict[str, RpcChannel] = {}

    def get(self, name: str) -> grpc.aio.Channel:
        """The channel to the service `name`; KeyError where it has no target."""
        channel = self._open.get(name)
        if channel is None:
            channel = self._open[name] = RpcChannel(
                self._raw(name),
                target=name,
                caller=self._caller,
                patience_seconds=self._patience_seconds,
                bearer=self._bearer,
            )
        return channel

    def address(self, name: str) -> str:
        """Where the service `name` is; KeyError where it has no target."""
        return self._targets[name]

    def _raw(self, name: str) -> grpc.aio.Channel:
        target = self._targets[name]
        tls = self._tls
        if self._single_address and (tls is None or isinstance(tls, ClientTls)):
            return WireChannel(target, _REACH, tls.context if tls is not None else None)
        if tls is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        return RenewedChannel(
            lambda credentials: grpc.aio.secure_channel(target, credentials, options=self._options),
            tls,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for channel in self._open.values():
            await channel.close()
        self._open.clear()


_MILLISECONDS: Final = 1000
_DIRECT: Final[dict[str, Any]] = {
    # Where a name has several addresses, all of them get calls.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            # What reaches a gRPC server in the moment in which that begins to stop is cancelled
            # before any handler has heard of it. Nothing else ends so by itself.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.1s",
                "backoffMultiplier": 4,
                "retryableStatusCodes": ["CANCELLED"],
            },
        }
    ],
}
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", constants.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", constants.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", constants.CLIENT_KEEPALIVE_SECONDS * _MILLISECONDS),
    ("grpc.keepalive_timeout_ms", constants.KEEPALIVE_TIMEOUT_SECONDS * _MILLISECONDS),
    # Without calls the server ends a connection at its age; no need to keep it up.
    ("grpc.keepalive_permit_without_calls", 0),
    # A peer that restarts is back within a second, not after a minute of back-off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Not a back-off but the time that one attempt to connect may take: a busy machine needs it.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Two services of one process must not share a connection, and with it its fate.
    ("grpc.use_local_subchannel_pool", 1),
]


# The proxy chooses among instances, and makes again what reached none of them.
_REACH: Final = Reach(
    most_message_bytes=constants.MAX_MESSAGE_BYTES,
    keepalive_seconds=constants.CLIENT_KEEPALIVE_SECONDS,
    keepalive_timeout_seconds=constants.KEEPALIVE_TIMEOUT_SECONDS,
    unseen=((constants.UNREACHED_KEY, "1"),),
)


def _options() -> list[tuple[str, Any]]:
    return [*_OPTIONS, ("grpc.service_config", json.dumps(_DIRECT))]
