"""The call of `agentmesh model`, and what it prints."""

import os

from agentmesh.reasoning.v1.model_pb2 import Model, ModelKind, ModelState
from agentmesh.reasoning.v1.reasoning_service_pb2 import ListModelsRequest
from cli import model_keys
from cli.event_line import tier_name
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.wording import dollars


def list_models(invocation: Invocation) -> None:
    """Prints all models, and a word about keys that are not used yet."""

    async def run(gateway: Gateway) -> list[Model]:
        answer = await gateway.reasoning.ListModels(ListModelsRequest(), timeout=CALL_SECONDS)
        return list(answer.models)

    models = call(address_of(invocation), invocation.tenant, run)
    key = model_keys.find(os.environ)
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document(
            {
                "models": [to_plain(each) for each in models],
                "provider_key": key.document() if key else None,
            }
        )
        return
    terminal.table(
        (
            "MODEL",
            "PROVIDER",
            "KIND",
            "TIER",
            "STATE",
            "IN / M TOKENS",
            "OUT / M TOKENS",
            "DESCRIPTION",
        ),
        [_row(each) for each in models],
        right=("IN / M TOKENS", "OUT / M TOKENS"),
    )
    if key:
        terminal.progress(key.sentence())


def _row(model: Model) -> tuple[str, ...]:
    return (
        model.name,
        model.provider,
        ModelKind.Name(model.kind).removeprefix("MODEL_KIND_").lower(),
        tier_name(model.tier) or "-",
        ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower().replace("_", " "),
        dollars(model.input_price_micros_per_million),
        dollars(model.output_price_micros_per_million),
        model.description,
    )
