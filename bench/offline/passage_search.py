"""A search over passages by their words, as plain as the real one is not: BM25."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation, ToolResult
from services.reasoning.offline.words import stems

_SATURATION: Final = 0.9
_LENGTH_SHARE: Final = 0.4


@dataclass(frozen=True, slots=True)
class Passage:
    """Something that can be found."""

    title: str
    text: str


class PassageSearch:
    """Answers `search_memory` from passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages: Final = passages
        self._postings: Final[dict[str, list[tuple[int, int]]]] = defaultdict(list)
        self._lengths: Final[list[int]] = []
        for index, passage in enumerate(passages):
            words = stems(f"{passage.title} {passage.text}")
            self._lengths.append(len(words))
            for word, count in Counter(words).items():
                self._postings[word].append((index, count))
        self._mean: Final = sum(self._lengths) / max(1, len(self._lengths))

    def result(self, call_id: str, query: str, limit: int) -> ToolResult:
        """What the tool returns: numbered passages, and their citations."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(stems(query)):
            found = self._postings.get(word, ())
            rarity = math.log(1 + (len(self._passages) - len(found) + 0.5) / (len(found) + 0.5))
            for index, count in found:
                length = self._lengths[index] / self._mean
                scores[index] += (
                    rarity
                    * count
                    * (1 + _SATURATION)
                    / (count + _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * length))
                )
        best = sorted(scores, key=lambda index: (-scores[index], index))[:limit]
        result = ToolResult(call_id=call_id, tool="search_memory")
        blocks: list[str] = []
        for number, index in enumerate(best, start=1):
            passage = self._passages[index]
            name = f"{passage.title}#{index}"
            lines = passage.text.count("\n") + 1
            blocks.append(f"[{number}] {name}, lines 1-{lines}\n{passage.text}")
            result.citations.append(
                Citation(
                    document=f"tenants/bench/documents/{index}",
                    uri=name,
                    title=passage.title,
                    start_line=1,
                    end_line=lines,
                    snippet=passage.text,
                    score=scores[index] / (1 + scores[best[0]]),
                )
            )
        result.text = "\n\n".join(blocks) or "No passage in the documents fits this query."
        return result
