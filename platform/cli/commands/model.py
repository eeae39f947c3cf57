"""`agentmesh model`."""

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh model list", "what answers, at which price, and how it is doing"),
        Example("agentmesh model test", "ask each of them for a word"),
    ],
)
def model() -> None:
    """List models, and see whether they answer."""


@model.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh model list", "in the order in which they are preferred"),
        Example(
            "agentmesh model list --json | jq -r '.models[] | select(.breaker =="
            ' "OPEN") | .name\'',
            "those that are left alone just now",
        ),
    ],
)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the models of the mesh: tier, health, breaker, context and prices.

    Models come in the order of their tiers, fast to powerful, and within a tier the preferred
    one first; the next is its fallback. Prices are US dollars per million tokens: sent, sent and
    found in the provider's cache, and received. CONTEXT is the most tokens of a request and its
    answer together.

    A breaker is closed where calls go through, open where the model failed too often and is left
    alone, half-open where a few calls are let through to see whether it works again. Nothing is
    called here: `agentmesh model test` does.
    """
    from cli import model_calls

    model_calls.list_models(invocation)


@model.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh model test", "all models, one after the other"),
        Example("agentmesh model test gpt-5-mini", "one of them"),
        Example(
            "agentmesh model test --json | jq '.models[] | {model, ok, first_token_ms}'",
            "for a script",
        ),
    ],
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@pass_invocation
def test(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Ask models for a word, and see whether and how soon they answer.

    Without a NAME all models are asked, one after the other. Each call goes past the model's
    breaker and to no other model in its place, may produce 16 tokens at most, and is paid for
    like any other; budgets see it as task type model-check. Embedding models are given a
    sentence.

    LATENCY runs to the whole answer, FIRST TOKEN to its first piece, both as seen by the
    reasoning service. The exit code is 1 where a model failed.
    """
    from cli import model_calls

    if not model_calls.test_models(invocation, names):
        raise click.exceptions.Exit(1)
