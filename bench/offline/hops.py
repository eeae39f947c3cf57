"""Questions that take two passages: the second is found with what the first says."""

from pathlib import Path

from bench.offline.conversation import Conversations
from bench.offline.documents import plain
from bench.offline.passage_search import Passage, PassageSearch
from bench.offline.rows import rows
from bench.offline.score import Score


async def score(data: Path, conversations: Conversations) -> list[Score]:
    """Whether the quotes hold the answer, and whether all passages that it needs are cited."""
    scores: list[Score] = []
    for name in ("hotpotqa", "musique"):
        holds = Score(f"{name}, a quote holds the answer")
        cites = Score(f"{name}, all passages cited")
        for row in rows(data / "multihop_qa" / f"{name}.jsonl"):
            if name == "hotpotqa":
                passages = [Passage(title, "".join(each)) for title, each in row["context"]]
                needed = {title for title, _ in row["supporting_facts"]}
                wanted = [row["answer"]]
            else:
                passages = [
                    Passage(each["title"], each["paragraph_text"]) for each in row["paragraphs"]
                ]
                needed = {each["title"] for each in row["paragraphs"] if each["is_supporting"]}
                wanted = [row["answer"], *row["answer_aliases"]]
            talk = await conversations.ask(row["question"], PassageSearch(passages))
            cited = talk.completion.citations
            quoted = [plain(each.snippet) for each in cited]
            story = f"{row['question']}\n    {talk.text} (wanted {wanted[0]}, from {needed})"
            held = any(plain(each) in quote for each in wanted for quote in quoted)
            holds.count(answered=bool(cited), right=held, story=story)
            whole = needed <= {each.title for each in cited}
            cites.count(answered=bool(cited), right=whole, story=story)
        scores += [holds, cites]
    return scores
