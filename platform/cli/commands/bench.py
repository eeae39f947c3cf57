"""`agentmesh bench`."""

import click

from cli.command import Example, MeshGroup


@click.group(
    cls=MeshGroup,
    lazy={
        "tasks": (
            "cli.commands.bench_tasks:tasks",
            "Measure how many durable tasks a mesh runs, how soon, and what they cost.",
        ),
        "growth": (
            "cli.commands.bench_growth:growth",
            "Measure how throughput grows with processes, partitions and backlog.",
        ),
        "governor": (
            "cli.commands.bench_governor:governor",
            "Measure what it takes to ask whether a model call may be made.",
        ),
        "gateway": (
            "cli.commands.bench_gateway:gateway",
            "Measure what it costs to pass a call on to a model, beside LiteLLM.",
        ),
        "peers": (
            "cli.commands.bench_peers:peers",
            "Run the same task on other systems, and compare.",
        ),
    },
    examples=[
        Example("agentmesh bench tasks", "the reference task, 64 in flight, a minute in all"),
        Example("agentmesh bench tasks --arrivals spike", "from 50 to 5,000 a minute and back"),
        Example("agentmesh bench peers", "Restate, LangGraph, DBOS and Celery beside this mesh"),
    ],
)
def bench() -> None:
    """Measure this machine's mesh.

    Each benchmark starts a mesh of its own on free ports, with its data in a temporary folder;
    meshes that run already are left alone. docs/benchmarks.md says how to read the figures.
    """
