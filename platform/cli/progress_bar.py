"""Results that come one after another: told as they come, with a bar where a person waits."""

from collections.abc import AsyncIterable, Callable
from typing import TypeVar

from cli.terminal import Terminal

T = TypeVar("T")


async def tell_each(
    terminal: Terminal,
    results: AsyncIterable[T],
    tell: Callable[[T], None],
    *,
    what: str,
    total: int | None,
) -> list[T]:
    """Collects `results` and calls `tell` with each.

    With a terminal on stderr a bar shows meanwhile, and the telling follows.
    `total` is how many there will be; None where nobody knows.
    """
    collected: list[T] = []
    if not terminal.fancy_progress:
        async for result in results:
            collected.append(result)
            tell(result)
        return collected

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal.err_console, transient=True) as bar:
        job = bar.add_task("", total=total)
        async for result in results:
            collected.append(result)
            bar.update(job, advance=1)
    for result in collected:
        tell(result)
    return collected
