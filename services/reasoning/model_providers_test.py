"""Which models there are, by the settings and by the environment."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, cast

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from meshkit.config import ConfigError
from meshkit.errors import ProviderFailed
from meshtest.clock import FakeClock
from services.reasoning.generation import Prompt
from services.reasoning.model_environment import models_of
from services.reasoning.model_providers import ServedModel, make_providers
from services.reasoning.model_settings import ModelSettings

_MAKES_BOTH = """
import asyncio, logging
from contextlib import AsyncExitStack
from meshtest.clock import FakeClock
from services.reasoning.model_environment import models_of
from services.reasoning.model_providers import make_providers

async def main():
    environ = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
    async with AsyncExitStack() as stack:
        models = models_of(environ, openai_model="gpt", anthropic_model="claude")
        assert len(make_providers(models, environ, stack, FakeClock())) == 2
    for name in ("openai._base_client", "anthropic._base_client", "httpx2"):
        print(logging.getLogger(name).isEnabledFor(logging.CRITICAL))

asyncio.run(main())
"""


@pytest.fixture
async def stack() -> AsyncGenerator[AsyncExitStack]:
    """Closes what a test opened."""
    async with AsyncExitStack() as opened:
        yield opened


def _one(stack: AsyncExitStack, settings: ModelSettings, environ: dict[str, str]) -> ServedModel:
    (model,) = make_providers({"m": settings}, environ, stack, FakeClock())
    return model


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"OPENAI_API_KEY": "", "ANTHROPIC_MODEL": "x"}, {}),
        ({"OPENAI_API_KEY": "sk-1"}, {"gpt": ("openai", "OPENAI_API_KEY")}),
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1", "OPENAI_API_KEY": "sk-1"},
            {"gpt": ("openai", "OPENAI_BASE_URL")},
        ),
        (
            {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "OPENAI_MODEL": "gpt-9"},
            {"claude": ("anthropic", "ANTHROPIC_API_KEY"), "gpt-9": ("openai", "OPENAI_API_KEY")},
        ),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}, {}),
    ],
)
def test_the_environment_gives_models(
    environ: dict[str, str], found: dict[str, tuple[str, str]]
) -> None:
    """One for each provider, Anthropic's first; the variable that did it is named."""
    models = models_of(environ, openai_model="gpt", anthropic_model="claude")
    assert [(name, each.provider, each.description) for name, each in models.items()] == [
        (name, provider, f"There because {variable} is set.")
        for name, (provider, variable) in found.items()
    ]


@pytest.mark.parametrize(
    ("settings", "environ", "description"),
    [
        (
            ModelSettings(provider="openai"),
            {"OPENAI_API_KEY": "secret"},
            "OpenAI's API at api.openai.com.",
        ),
        (
            ModelSettings(provider="openai", description="Large."),
            {"OPENAI_BASE_URL": "http://user:secret@models.local:8000/v1"},
            "OpenAI's API at models.local. Large.",
        ),
        (
            ModelSettings(provider="openai", address="http://127.0.0.1:1/v1"),
            {"OPENAI_BASE_URL": "http://models.local:8000/v1"},
            "OpenAI's API at 127.0.0.1.",
        ),
        (
            ModelSettings(provider="anthropic", key_variable="MINE"),
            {"MINE": "secret"},
            "Anthropic's API at api.anthropic.com.",
        ),
    ],
)
async def test_a_model_says_where_it_is_served(
    stack: AsyncExitStack, settings: ModelSettings, environ: dict[str, str], description: str
) -> None:
    """By the host alone: neither the key nor what else an address may hold is shown."""
    model = _one(stack, settings, environ)
    assert (model.spec.callable, model.spec.description) == (True, description)
    assert model.provider is not None
    assert "secret" not in repr(model)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (ModelSettings(provider="openai"), "OPENAI_API_KEY"),
        (ModelSettings(provider="anthropic"), "ANTHROPIC_API_KEY"),
        (
            ModelSettings(
                provider="openai", address="http://127.0.0.1:1/v1", key_variable="VLLM_KEY"
            ),
            "VLLM_KEY",
        ),
    ],
)
async def test_a_model_without_its_key_is_listed_and_not_called(
    stack: AsyncExitStack, settings: ModelSettings, variable: str
) -> None:
    """The variable that is missing is named."""
    model = _one(stack, settings, {"OPENAI_KEY": "a slip of the pen"})
    assert (model.spec.callable, model.provider) == (False, None)
    assert model.spec.description == f"Needs the environment variable {variable}."


@pytest.mark.parametrize(
    ("settings", "environ", "words"),
    [
        (
            ModelSettings(provider="openai", address="127.0.0.1:8000"),
            {},
            "reasoning.models.m.address: expected a base URL such as https://api.openai.com/v1"
            " or http://127.0.0.1:8000/v1",
        ),
        (
            ModelSettings(provider="openai"),
            {"OPENAI_BASE_URL": "http://[secret/v1"},
            "environment: OPENAI_BASE_URL: expected a base URL such as"
            " https://api.openai.com/v1 or http://127.0.0.1:8000/v1",
        ),
    ],
)
async def test_an_address_that_is_none_is_refused(
    stack: AsyncExitStack, settings: ModelSettings, environ: dict[str, str], words: str
) -> None:
    """Where it was given is named, and it is not repeated."""
    with pytest.raises(ConfigError) as caught:
        _one(stack, settings, environ)
    assert str(caught.value) == words


class _Refusing:
    """Refuses, and keeps what was sent along."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def __getattr__(self, name: str) -> None:
        """Serves no other method."""

    async def ModelStreamInfer(self, requests: object, context: Any) -> None:
        """Refuses every call."""
        self.headers = dict(context.invocation_metadata())
        await context.abort(grpc.StatusCode.UNAVAILABLE, "No.")


@pytest.mark.parametrize(("needs_gpu", "device"), [(True, "gpu"), (False, None)])
async def test_a_model_that_needs_a_gpu_asks_for_one(
    stack: AsyncExitStack, needs_gpu: bool, device: str | None
) -> None:
    """By the header that mesh/envoy/models.yaml routes by."""
    server, refusing = grpc.aio.server(), _Refusing()
    cast(Any, service_pb2_grpc).add_GRPCInferenceServiceServicer_to_server(refusing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    settings = ModelSettings(provider="triton", address=f"127.0.0.1:{port}", needs_gpu=needs_gpu)
    model = _one(stack, settings, {})
    assert model.provider is not None
    with pytest.raises(ProviderFailed):
        await model.provider.complete(Prompt((), ()))
    assert refusing.headers.get("x-agentmesh-device") == device


def test_no_sdk_logs_whatever_the_environment_says() -> None:
    """What they would log are prompts. It is so for each, whichever is made last."""
    environ = {**os.environ, "OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug"}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    made = subprocess.run(
        [sys.executable, "-c", _MAKES_BOTH],
        env=environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert made.stdout.split() == ["False"] * 3
