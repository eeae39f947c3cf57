"""Critiques, revisions and reviews by what can be checked: parts left out, numbers from nowhere."""

import json
import re
from collections.abc import Sequence
from typing import Final

from services.reasoning.offline.phases import ReturnedPart, problems, returned_parts
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.turn import Turn, Work
from services.reasoning.offline.words import content_stems, stems

_NUMBER: Final = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w])")
_QUOTE: Final = re.compile(r"“([^”]{1,2000})”")
_SENTENCE: Final = re.compile(r"[^.!?\n]+(?:[.!?](?!\s)[^.!?\n]*)*[.!?]*")
# Numbers that need no source: small counts, and the numbers of citations.
_SMALLEST: Final = 10
_MOST_PROBLEMS: Final = 10
_LEFT_OUT: Final = "Say something about this part of the request: "
_NO_SOURCE: Final = "Leave out or correct this number, which nothing above supports: "
_NO_QUOTE: Final = "Leave out or correct this quote, which stands nowhere above: "
_EMPTY: Final = "Give an answer: there is none."
_DONE: Final = frozenset(["SUCCEEDED", "PARTIAL"])


def critique(turn: Turn, planner: Planner, own: str) -> str:
    """What the draft leaves out of the request, and what in it has no source, in JSON.

    `own` is what the rules answer to the request: it has its sources.
    """
    found = _problems(turn, planner, own)
    return json.dumps({"acceptable": not found, "problems": found}, ensure_ascii=False)


def revision(turn: Turn) -> str:
    """The draft without what has no source, saying of what was left out that it is not known."""
    text = turn.draft.strip()
    unsolved: list[str] = []
    for problem in problems(turn.instruction):
        if problem.startswith((_NO_SOURCE, _NO_QUOTE)):
            wrong = problem.partition(": ")[2]
            text = _without(text, wrong)
        elif problem.startswith(_LEFT_OUT):
            unsolved.append(f"I cannot answer this part: {problem.removeprefix(_LEFT_OUT)}")
        elif problem != _EMPTY:
            unsolved.append(f"I have no rule to solve this problem: {problem}")
    return "\n\n".join(each for each in (text, " ".join(unsolved)) if each) or "I have no answer."


def review(turn: Turn) -> str:
    """Accepts what was done and speaks of what was asked, in JSON."""
    verdicts = [
        {"part": part.number, "accepted": not reason, "reason": reason}
        for part in returned_parts(turn.instruction)
        for reason in [_fault(part)]
    ]
    return json.dumps({"verdicts": verdicts}, ensure_ascii=False)


def _problems(turn: Turn, planner: Planner, own: str) -> list[str]:
    draft = turn.draft.strip()
    if not draft:
        return [_EMPTY]
    said = set(stems(draft))
    request = turn.request
    found = [
        f"{_LEFT_OUT}{part.text}"
        for part in planner.parts(request.request, before=request.request_before, tools=())
        if said.isdisjoint(content_stems(part.text)) and content_stems(part.text)
    ]
    above = _above([request, *turn.done], [own, *turn.reviews])
    known = {_plain(each) for each in _NUMBER.findall(above)}
    found += [
        f"{_NO_SOURCE}{number}"
        for number in dict.fromkeys(_NUMBER.findall(draft))
        if _plain(number) not in known and not _is_small(number)
    ]
    spaced = " ".join(above.split())
    # What was shortened ends in the mark of it.
    found += [
        f"{_NO_QUOTE}{quote}"
        for quote in dict.fromkeys(_QUOTE.findall(draft))
        if " ".join(quote.rstrip("…").split()) not in spaced
    ]
    return found[:_MOST_PROBLEMS]


def _above(works: Sequence[Work], further: Sequence[str]) -> str:
    texts = [text for work in works for text in (work.request, *work.said)]
    for work in works:
        for result in work.results:
            texts.append(result.text)
            texts += [
                f"{each.snippet} {each.uri} {each.title} {each.start_line} {each.end_line}"
                for each in result.citations
            ]
    return "\n".join([*texts, *further])


def _plain(number: str) -> str:
    return number.replace(",", "").rstrip(".")


def _is_small(number: str) -> bool:
    plain = _plain(number)
    return plain.isdigit() and int(plain[:9]) <= _SMALLEST and len(plain) < 3


def _without(text: str, wrong: str) -> str:
    """`text` without the sentences that hold `wrong`."""
    kept = [each[0] for each in _SENTENCE.finditer(text) if wrong not in each[0]]
    return " ".join("".join(kept).split())


def _fault(part: ReturnedPart) -> str:
    """Why the result of `part` will not do; empty where it will."""
    if part.state not in _DONE:
        return f"The part ended as {part.state or 'nothing'}."
    if not part.returned:
        return "Nothing was returned."
    asked = set(content_stems(part.asked))
    if (
        asked
        and asked.isdisjoint(stems(part.returned))
        and not any(character.isdigit() for character in part.returned)
    ):
        return "The result has none of the words of what was asked."
    return ""
