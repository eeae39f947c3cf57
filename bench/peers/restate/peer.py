"""Restate: its server, the service behind granian, and a client at the server's ingress."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.peers.child import child, with_parent
from bench.peers.closed_loop import Load
from bench.peers.measure import measure, peer_environment
from bench.peers.packages import Packages, locked_version, own_environment
from bench.peers.peer import Figures, PeerUnavailable
from tier.ports import HOST, free_ports, is_free

_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "requirements.lock.txt"
_SERVER_LOCK: Final = _HERE / "package-lock.json"
_SERVER: Final = "@restatedev/restate-server"
_ANSWER_SECONDS: Final = 10.0


class Restate:
    """Restate as its makers ship it; each action is recorded in its replicated log."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "restate"
        self.title: Final = "Restate"
        self.takes_turns: Final = True
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """The server from npm, the SDK and granian from pip."""
        self._python()
        self._server()
        sdk, granian = (locked_version(_LOCK, each) for each in ("restate-sdk", "granian"))
        return (
            f"server {locked_version(_SERVER_LOCK, _SERVER)}, one node with its defaults (its log "
            f"is synced to disk in batches); Python SDK {sdk} on granian {granian}, one process, "
            "HTTP/2, uvloop; the client calls the ingress by aiohttp"
        )

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts the server and the service, makes them known to each other, and measures."""
        ingress, admin, node, service = free_ports(4)
        server_environment = own_environment(
            self._environ,
            RESTATE_DISABLE_TELEMETRY="true",
            RESTATE_LISTEN_MODE="tcp",
            RESTATE_BIND_IP=HOST,
            RESTATE_BIND_PORT=str(node),
            RESTATE_INGRESS__BIND_PORT=str(ingress),
            RESTATE_ADMIN__BIND_PORT=str(admin),
            RESTATE_LOG_FILTER="warn",
        )
        serving = [self._python(), "-m", "granian", "--interface", "asgi", "--http", "2"]
        serving += ["--loop", "uvloop", "--no-ws", "--host", HOST, "--port", str(service)]
        # The server keeps its connection, so a worker does not end by itself.
        serving += ["--workers-kill-timeout", "1", "bench.peers.restate.handlers:app"]
        environment = peer_environment(self._environ)
        with (
            child(
                "Restate's server",
                with_parent([self._server(), "--no-logo", "--base-dir", folder / "restate"]),
                log=folder / "server.log",
                environment=server_environment,
                ready=lambda: _is_healthy(admin) and not is_free(ingress),
            ) as server,
            child(
                "Restate's service",
                with_parent(serving),
                log=folder / "service.log",
                environment=environment,
                ready=lambda: not is_free(service),
            ) as handlers,
        ):
            _register(admin, service)
            return measure(
                self._python(),
                _HERE / "driver.py",
                load,
                {"ingress": f"http://{HOST}:{ingress}"},
                parts={"server": server, "handlers": handlers},
                driver_part="client",
                environment=environment,
                log=folder / "driver.log",
            )

    def _python(self) -> Path:
        return self._packages.python(self.name, _LOCK)

    def _server(self) -> Path:
        modules = self._packages.npm(f"{self.name}-server", _SERVER_LOCK)
        programs = sorted(modules.glob(f"{_SERVER}-*/bin/restate-server"))
        if not programs:
            raise PeerUnavailable("Restate ships no server for this machine.")
        return programs[0]


def _call(request: "urllib.request.Request | str") -> None:
    # No proxy that the environment may name: this stays on the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
        answer.read()


def _is_healthy(admin: int) -> bool:
    try:
        _call(f"http://{HOST}:{admin}/health")
    except OSError:
        return False
    return True


def _register(admin: int, service: int) -> None:
    request = urllib.request.Request(
        f"http://{HOST}:{admin}/deployments",
        data=json.dumps({"uri": f"http://{HOST}:{service}"}).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        _call(request)
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")
        raise PeerUnavailable(f"Restate refused the service: {said}") from None
    except OSError as error:
        raise PeerUnavailable(f"Restate did not take the service: {error}") from None
