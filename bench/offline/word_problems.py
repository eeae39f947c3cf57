"""Arithmetic in stories: a wrong number is worse than none."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from bench.offline.conversation import Conversations
from bench.offline.rows import rows
from bench.offline.score import Score


async def score(data: Path, conversations: Conversations) -> list[Score]:
    """A score for each set of problems."""
    scores: list[Score] = []
    for name, problems in (
        ("multiarith", _multiarith(data)),
        ("svamp", _svamp(data)),
        ("gsm8k", _gsm8k(data)),
    ):
        counted = Score(name)
        for text, wanted in problems:
            talk = await conversations.ask(text)
            value = talk.values[-1] if talk.values else ""
            right = bool(value) and abs(Decimal(value) - wanted) < Decimal("0.005")
            story = f"{text}\n    {talk.text} (wanted {wanted})"
            counted.count(answered=bool(value), right=right, story=story)
        scores.append(counted)
    return scores


def _multiarith(data: Path) -> Iterator[tuple[str, Decimal]]:
    for row in rows(data / "multiarith" / "test.jsonl"):
        yield row["sQuestion"].strip(), Decimal(str(row["lSolutions"][0]))


def _svamp(data: Path) -> Iterator[tuple[str, Decimal]]:
    for row in rows(data / "svamp" / "test.jsonl"):
        body = row["Body"].strip()
        gap = " " if body.endswith((".", "!", "?", ",")) else ", "
        yield f"{body}{gap}{row['Question'].strip()}", Decimal(str(row["Answer"]))


def _gsm8k(data: Path) -> Iterator[tuple[str, Decimal]]:
    for row in rows(data / "gsm8k" / "test.jsonl"):
        wanted = row["answer"].rpartition("####")[2].strip().replace(",", "")
        yield row["question"], Decimal(wanted)
