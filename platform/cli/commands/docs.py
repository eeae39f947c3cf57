"""`agentmesh docs`."""

from collections.abc import Sequence
from pathlib import Path

import click

from cli import document_files
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh docs add docs/", "give the agents a folder to answer from"),
        Example('agentmesh docs search "rate limits"', "what they would find"),
    ],
)
def docs() -> None:
    """Add, search and remove documents: the knowledge that a tenant's agents answer from."""


@docs.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh docs add docs/ README.md", "a folder and a file"),
        Example("agentmesh docs add docs/ --json", "one object a line for each document"),
    ],
)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@pass_invocation
def add(invocation: Invocation, paths: Sequence[Path]) -> None:
    """Store documents (.md .markdown .txt .html .htm .pdf); folders are walked.

    A document is known by its path as seen from here. The same content again
    changes nothing, other content replaces it. The exit code is 1 if one could
    not be stored.
    """
    found = document_files.find(paths, base=Path.cwd())
    if found.skipped:
        invocation.terminal.progress(document_files.skipped_line(found.skipped))

    from cli import docs_calls

    if not docs_calls.add(invocation, found.documents):
        raise click.exceptions.Exit(1)


@docs.command(
    cls=MeshCommand,
    examples=[
        Example('agentmesh docs search "what to do about rate limits"', "the best five passages"),
        Example(
            'agentmesh docs search "budget" --limit 20 --min-score 0.4',
            "more of them, none too far off",
        ),
    ],
)
@click.argument("query")
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="How many passages.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SCORE",
    help="Leave out what fits less well than this, from 0 to 1.",
)
@pass_invocation
def search(invocation: Invocation, query: str, limit: int, min_score: float) -> None:
    """Find the passages that fit QUERY best, with file, lines and score."""
    if not query.strip():
        raise Problem("The query is empty.", "Say what to look for.")

    from cli import docs_calls

    docs_calls.search(invocation, query, limit, min_score)


@docs.command(
    cls=MeshCommand,
    examples=[
        Example(
            "agentmesh docs remove docs/old.md", "a file, which may be gone from the disk already"
        ),
        Example("agentmesh docs remove docs/", "every document of a folder"),
    ],
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_invocation
def remove(invocation: Invocation, paths: Sequence[str]) -> None:
    """Remove documents from the tenant's knowledge; the files stay.

    PATH is what was given to `add`, from the same folder, or a document's full
    name (tenants/TENANT/documents/ID). Removing what is not stored is no error.
    """
    from cli import docs_calls

    docs_calls.remove(invocation, paths, base=Path.cwd())
