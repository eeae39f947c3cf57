"""How fast texts become vectors: bare ONNX Runtime, in process, through Triton.

`bazel run //bench:embedding` prints medians. The CPU time is steadier than the rest
where other programs are busy, too.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from meshtest.child_server import free_port
from models.minilm.architecture import MAX_TOKENS
from models.minilm.embedder import PACKAGED_MODEL, MiniLmEmbedder
from models.minilm.network import Network
from models.minilm.tokens import WordPieces
from models.triton_server import TritonOptions, running_triton
from services.reasoning.embedder_inprocess import InProcessEmbedder
from services.reasoning.embedder_triton import TritonEmbedder

_SHORT: Final = "How do I reset my password?"
_LONG: Final = "word " * MAX_TOKENS
_BATCH: Final = 32
_SECONDS_A_CASE: Final = 4.0
_LEAST_PAIRS: Final = 5

Embed = Callable[[Sequence[str]], Awaitable[object]]


async def measure(triton_server: Path) -> None:
    """Prints the table. `triton_server`: the launcher of Triton."""
    print("            texts of a call     ms a call   texts a second   CPU ms a text   MB")
    await _report("bare", _bare())
    in_process = InProcessEmbedder(MiniLmEmbedder())
    await _report("in process", in_process.embed)
    await in_process.close()
    options = TritonOptions(triton_server, free_port())
    with tempfile.TemporaryDirectory() as folder:
        async with running_triton(options, log_path=Path(folder) / "log") as running:
            triton = TritonEmbedder(running.target)
            await _report("triton", triton.embed)
            for title, text in (("short", _SHORT), ("long", _LONG)):
                share = await _share(_bare(), triton.embed, [text] * _BATCH)
                print(f"Through Triton, {_BATCH} {title}: {share:.0%} of bare ONNX Runtime.")
            await triton.close()


def _bare() -> Embed:
    """Tokens and one run, in the event loop's thread: the least that there is to do."""
    pieces, network = WordPieces(PACKAGED_MODEL), Network(PACKAGED_MODEL, threads=2)

    async def embed(texts: Sequence[str]) -> None:
        network.run(pieces.encode(texts))

    return embed


async def _report(name: str, embed: Embed) -> None:
    async def one_each(texts: Sequence[str]) -> None:
        await asyncio.gather(*(embed([text]) for text in texts))

    await _case(name, "1 short", embed, [_SHORT])
    await _case(name, f"{_BATCH} short", embed, [_SHORT] * _BATCH)
    await _case(name, f"{_BATCH} x 1 short", one_each, [_SHORT] * _BATCH)
    await _case(name, f"{_BATCH} long", embed, [_LONG] * _BATCH)


async def _case(name: str, title: str, embed: Embed, texts: Sequence[str]) -> None:
    """Prints medians over calls that follow one another for some seconds."""
    await embed(texts)
    seconds: list[float] = []
    cpu_seconds = _cpu_seconds()
    while sum(seconds) < _SECONDS_A_CASE:
        seconds.append(await _seconds(embed, texts))
    cpu = (_cpu_seconds() - cpu_seconds) / len(seconds) / len(texts)
    median = statistics.median(seconds)
    megabytes = sum(each.memory_info().rss for each in _processes()) / 1e6
    print(
        f"{name:11} {title:16} {median * 1e3:12.2f} {len(texts) / median:16.1f}"
        f" {cpu * 1e3:15.2f} {megabytes:4.0f}"
    )


async def _share(bare: Embed, embed: Embed, texts: Sequence[str]) -> float:
    """The throughput of `embed` as a share of `bare`, which take turns: both meet the same load."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < _LEAST_PAIRS or sum(map(sum, pairs)) < 2 * _SECONDS_A_CASE:
        pairs.append((await _seconds(bare, texts), await _seconds(embed, texts)))
    # The first had to load.
    first, second = zip(*pairs[1:], strict=True)
    return statistics.median(first) / statistics.median(second)


async def _seconds(embed: Embed, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    await embed(texts)
    return time.perf_counter() - start


def _cpu_seconds() -> float:
    """Of this process and Triton's, so far."""
    times = [each.cpu_times() for each in _processes()]
    return sum(each.user + each.system for each in times)


def _processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1])))
