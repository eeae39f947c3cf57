"""What the offline model can do: precision and coverage over public data sets.

`bazel run //bench:offline_model -- --data FOLDER` reads data sets that lie in
FOLDER by name (svamp, squad2, bfcl_v4, ...) and prints a table. Nothing of them
is kept here.
"""

import argparse
import asyncio
import statistics
import sys
from pathlib import Path
from typing import Final

from bench.offline import documents, hops, tool_calls, word_problems
from bench.offline.conversation import Conversations
from bench.offline.score import Score, table

_SUITES: Final = {
    "word_problems": word_problems.score,
    "documents": documents.score,
    "hops": hops.score,
    "tool_calls": tool_calls.score,
}


async def measure(data: Path, suites: list[str], *, wrong: int) -> None:
    """Prints the scores of `suites`, and up to `wrong` wrong answers of each part."""
    conversations = Conversations()
    scores: list[Score] = []
    for suite in suites:
        scores += await _SUITES[suite](data, conversations)
    print(table(scores))
    spent = sorted(conversations.seconds)
    print(
        f"\n{len(spent)} calls of the model: median {statistics.median(spent) * 1e3:.2f} ms,"
        f" 99 % within {spent[int(len(spent) * 0.99)] * 1e3:.2f} ms,"
        f" longest {spent[-1] * 1e3:.1f} ms"
    )
    for score in scores:
        for story in score.wrong[:wrong]:
            print(f"\n{score.suite}: {story}")


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument(
        "--suite", action="append", choices=sorted(_SUITES), help="only this one; repeatable"
    )
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to show of each part")
    options = parser.parse_args(argv)
    suites: list[str] = options.suite or list(_SUITES)
    asyncio.run(measure(options.data, suites, wrong=options.wrong))


if __name__ == "__main__":
    _main(sys.argv[1:])
