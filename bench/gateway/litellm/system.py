"""The LiteLLM proxy, installed on demand into an environment of its own."""

import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from bench.gateway import reference_call
from bench.gateway.http_calls import HttpCalls
from bench.gateway.system import Running, SystemUnavailable
from bench.peers.child import child, with_parent
from bench.peers.packages import Packages, locked_version
from bench.peers.peer import PeerUnavailable
from tier.ports import HOST, free_ports, is_free

_LOCK: Final = Path(__file__).parent / "requirements.lock.txt"
# It imports for a while.
_READY_SECONDS: Final = 120.0


class LiteLlm:
    """One worker, without a database, as its makers recommend it for production otherwise."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "litellm"
        self.title: Final = "LiteLLM proxy"
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """From pip."""
        try:
            self._python()
        except PeerUnavailable as error:
            raise SystemUnavailable(str(error)) from None
        return (
            f"litellm {locked_version(_LOCK, 'litellm')}, one worker on uvicorn and uvloop, chat "
            "completions by HTTP; no database, no budgets, no log of calls, telemetry off"
        )

    @asynccontextmanager
    async def run(self, upstream_port: int, folder: Path) -> AsyncGenerator[Running]:
        """Starts the proxy. It reaches the upstream, and nobody but this machine reaches it."""
        (port,) = free_ports(1)
        config = folder / "litellm.yaml"
        # It does not start without one. This one lives as long as the proxy.
        key = f"sk-{secrets.token_hex(32)}"
        config.write_text(yaml.safe_dump(settings(upstream_port, key)), "utf-8")
        command = [self._python(), "-P", "-m", "litellm.proxy.proxy_cli", "--config", config]
        command += ["--host", HOST, "--port", str(port), "--num_workers", "1"]
        command += ["--telemetry", "False"]
        calls = HttpCalls(HOST, port, "/v1/chat/completions", key=key)
        try:
            with child(
                self.title,
                with_parent(command),
                log=folder / "litellm.log",
                environment=environment(self._environ, folder),
                ready=lambda: not is_free(port),
                ready_seconds=_READY_SECONDS,
            ) as pid:
                yield Running(calls, {"proxy": pid})
        except PeerUnavailable as error:
            raise SystemUnavailable(str(error)) from None
        finally:
            calls.close()

    def _python(self) -> Path:
        return self._packages.python("litellm", _LOCK)


def environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What it needs to run and no more: no key of anybody, no address, no settings."""
    return {
        "PATH": environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        # Nothing is sent, and no price list is fetched.
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DO_NOT_TRACK": "1",
        # As its makers recommend for production.
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
    }


def settings(upstream_port: int, key: str) -> dict[str, Any]:
    return {
        "model_list": [
            {
                "model_name": reference_call.MODEL,
                "litellm_params": {
                    "model": f"openai/{reference_call.MODEL}",
                    "api_base": f"http://{HOST}:{upstream_port}/v1",
                    # It wants one; the upstream takes none.
                    "api_key": "none",
                },
            }
        ],
        "litellm_settings": {"telemetry": False, "set_verbose": False, "callbacks": []},
        "general_settings": {"master_key": key, "disable_spend_logs": True},
    }
