"""The calls of `agentmesh model`."""

import os
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from agentmesh.reasoning.v1.model_pb2 import Model
from agentmesh.reasoning.v1.reasoning_service_pb2 import (
    CheckModelRequest,
    CheckModelResponse,
    ListModelsRequest,
)
from cli import model_keys, model_view
from cli.gateway import Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.problem import Problem
from cli.progress_bar import tell_each
from meshkit.errors import BudgetExhausted, RateLimited, to_status

_MOST_MODELS: Final = 1000
# Longer than reasoning gives a model to answer a check, by its default settings.
_CHECK_SECONDS: Final = 60.0


def list_models(invocation: Invocation) -> None:
    """Prints all models, and what a key in the environment means to this mesh."""
    models = call(address_of(invocation), invocation.tenant, _all)
    key = model_keys.find(os.environ)
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document(
            {
                "models": [to_plain(each) for each in models],
                "provider_key": key.document(models) if key else None,
            }
        )
        return
    model_view.show_models(terminal, models)
    if key:
        terminal.progress(key.notice(models))


def test_models(invocation: Invocation, names: Sequence[str]) -> bool:
    """Has the models named checked, or all of them; prints what came of it.

    Answers whether all are well.
    """
    terminal = invocation.terminal

    async def run(gateway: Gateway) -> list[CheckModelResponse]:
        chosen = _chosen(await _all(gateway), names)
        return await tell_each(
            terminal,
            _checks(gateway, chosen),
            lambda checked: terminal.progress(model_view.checked_line(checked)),
            what="Models tested",
            total=len(chosen),
        )

    found = call(address_of(invocation), invocation.tenant, run)
    if terminal.as_json:
        terminal.document(model_view.checks_document(found))
    else:
        model_view.show_checks(terminal, found)
    return not any(model_view.failed(each) for each in found)


async def _all(gateway: Gateway) -> list[Model]:
    return await collect(
        gateway.reasoning.ListModels,
        ListModelsRequest(),
        lambda answer: answer.models,
        limit=_MOST_MODELS,
    )


def _chosen(models: Sequence[Model], names: Sequence[str]) -> list[Model]:
    """The models of these names, each once; all where none is named."""
    known = {each.name: each for each in models}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Problem(
            f"There is no model {unknown[0]!r}; there are {', '.join(known)}.", exit_code=2
        )
    return [known[name] for name in dict.fromkeys(names)] if names else list(models)


async def _checks(gateway: Gateway, models: Sequence[Model]) -> AsyncGenerator[CheckModelResponse]:
    """One after the other, so that none is slowed down by another."""
    for model in models:
        try:
            yield await gateway.reasoning.CheckModel(
                CheckModelRequest(model=model.name), timeout=_CHECK_SECONDS
            )
        except (BudgetExhausted, RateLimited) as error:
            # A budget stands in the way of this model; free ones can still be tested.
            yield CheckModelResponse(model=model, error=to_status(error))
