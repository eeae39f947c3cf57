"""Answers from documents by quotes, and refusals where the documents do not say."""

from collections.abc import Sequence
from pathlib import Path

from bench.offline.conversation import Conversations, Talk
from bench.offline.passage_search import Passage, PassageSearch
from bench.offline.rows import rows
from bench.offline.score import Score


async def score(data: Path, conversations: Conversations) -> list[Score]:
    """For each set: what is in the documents, and what is not (right: refused)."""
    squad = [
        Passage(row["title"].replace("_", " "), row["text"])
        for row in rows(data / "squad2" / "passages.jsonl")
    ]
    search = PassageSearch(squad)
    told, untold = Score("squad2, answerable"), Score("squad2, unanswerable (refused)")
    for row in rows(data / "squad2" / "questions.jsonl"):
        talk = await conversations.ask(row["question"], search)
        if row["is_impossible"]:
            _count_refusal(untold, row["question"], talk)
        else:
            wanted = [each["text"] for each in row["answers"]]
            _count_quote(told, row["question"], talk, wanted)
    foreign = Score("nq_open, in foreign documents (refused)")
    for row in rows(data / "nq_open" / "questions.jsonl"):
        _count_refusal(foreign, row["question"], await conversations.ask(row["question"], search))
    return [told, untold, *await _clapnq(data, conversations), foreign]


async def _clapnq(data: Path, conversations: Conversations) -> list[Score]:
    questions = list(rows(data / "clapnq" / "questions.jsonl"))
    search = PassageSearch(
        [Passage(each["title"], each["text"]) for row in questions for each in row["passages"]]
    )
    told, untold = Score("clapnq, answerable"), Score("clapnq, unanswerable (refused)")
    for row in questions:
        talk = await conversations.ask(row["question"], search)
        if row["answerable"]:
            wanted = [each for out in row["output"] for each in out["selected_sentences"]]
            _count_quote(told, row["question"], talk, wanted)
        else:
            _count_refusal(untold, row["question"], talk)
    return [told, untold]


def _count_quote(score: Score, question: str, talk: Talk, wanted: Sequence[str]) -> None:
    """Right is a quote that holds a wanted text, or is a part of one."""
    quotes = [plain(each.snippet) for each in talk.completion.citations]
    right = any(
        plain(each) in quote or (len(quote) > 20 and quote in plain(each))
        for each in wanted
        for quote in quotes
    )
    story = f"{question}\n    {talk.text} (wanted {wanted[:2]})"
    score.count(answered=bool(quotes), right=right, story=story)


def _count_refusal(score: Score, question: str, talk: Talk) -> None:
    refused = not talk.completion.citations
    score.count(answered=True, right=refused, story=f"{question}\n    {talk.text}")


def plain(text: str) -> str:
    """Letters and digits only, lower case, so that spacing and marks do not matter."""
    return "".join(character for character in text.lower() if character.isalnum())
