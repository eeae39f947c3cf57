"""Words the answer from what the tools returned, with citations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.arithmetic import Calculation
from services.reasoning.offline.citations import Citations
from services.reasoning.offline.delegations import Delegation
from services.reasoning.offline.extraction import (
    ENOUGH_IN_CONVERSATION,
    best_sentences,
    mentions,
)
from services.reasoning.offline.lookups import Lookup, make_lookup
from services.reasoning.offline.passages import (
    Candidate,
    candidates_in_results,
    candidates_in_texts,
)
from services.reasoning.offline.pauses import Pause
from services.reasoning.offline.person_questions import PersonQuestion
from services.reasoning.offline.plan import Step
from services.reasoning.offline.shorten import LONGEST_QUOTE, sentence, shortened
from services.reasoning.offline.times import TimeQuestion
from services.reasoning.offline.tool_arguments import ToolRequest
from services.reasoning.offline.wait_answers import asked, delegated, paused

NOT_FOUND: Final = "I did not find this in the documents."
INTRODUCTION: Final = (
    "I am Agentmesh's offline model: rules, not a language model. I can calculate, tell the time,"
    " call tools by name and quote your documents, where these tools are offered."
)
_LONGEST_RESULT: Final = 2000
# Beginnings of phrases that want an article: "The square root of 16 is 4."
_WANTS_ARTICLE: Final = (
    "square",
    "cube",
    "sum",
    "total",
    "product",
    "difference",
    "average",
    "mean",
)
# Beginnings of phrases that are no subject of a sentence.
_NO_SUBJECT: Final = (
    "what",
    "add",
    "subtract",
    "multiply",
    "divide",
    "increase",
    "decrease",
    "raise",
    "reduce",
)

Result = conversation_pb2.ToolResult


@dataclass(frozen=True, slots=True)
class Answer:
    """Text, and the passages that its `[n]` refer to, the first being `[1]`."""

    text: str
    citations: Sequence[conversation_pb2.Citation]


def answer(steps: Sequence[Step], results: Mapping[int, Result], *, said: Sequence[str]) -> Answer:
    """The answer to a plan.

    `results` are by the step's index; `said` is the conversation before.
    """
    if not steps:
        return Answer(INTRODUCTION, [])
    citations = Citations()
    lookups = sum(isinstance(step.subject, Lookup) for step in steps)
    sentences: list[str] = []
    for index, step in enumerate(steps):
        result = results.get(index)
        match step.subject:
            case Lookup() as lookup:
                sentences.append(
                    _looked_up(lookup, result, said, citations, alone=lookups == 1 == len(steps))
                )
            case Calculation() as calculation:
                sentences.append(_calculated(calculation, result))
            case TimeQuestion() as question:
                sentences.append(_timed(question, result))
            case ToolRequest() as request:
                sentences.append(_tool_said(request, result))
            case PersonQuestion() as question:
                sentences.append(asked(question, result))
            case Pause() as pause:
                sentences.append(paused(pause, result))
            case Delegation() as delegation:
                # A list stands by itself.
                sentences.append(f"\n\n{delegated(delegation, result, citations)}\n\n")
    text = " ".join(sentences).replace(" \n\n", "\n\n").replace("\n\n ", "\n\n")
    return Answer(text.strip(), citations.cited)


def answer_unplanned(question: str, results: Sequence[Result]) -> Answer:
    """The answer from tools that somebody else planned to call."""
    citations = Citations()
    sentences: list[str] = []
    for result in results:
        if result.citations and not result.is_error:
            lookup = make_lookup(question)
            sentences.append(_looked_up(lookup, result, [], citations, alone=True))
        elif result.is_error:
            sentences.append(f"{result.tool} failed: {sentence(result.text)}")
        else:
            sentences.append(f"{result.tool}: {shortened(result.text, _LONGEST_RESULT)}")
    return Answer(" ".join(sentences), citations.cited)


def _calculated(calculation: Calculation, result: Result | None) -> str:
    phrase = calculation.phrase
    if result is None:
        return f"I was offered no calculator, so I cannot say what {phrase} is."
    if result.is_error:
        return f"I could not calculate {phrase}: {sentence(result.text)}"
    data = result.data.fields
    exact = "exact" not in data or data["exact"].bool_value
    # Some tools write the whole equation.
    value = result.text.rpartition("=")[2].strip().rstrip(".")
    value = value if exact else f"about {value}"
    if phrase.lower().startswith(_NO_SUBJECT):
        return f"{_capitalised(phrase)}: {value}."
    if phrase.lower().startswith(_WANTS_ARTICLE):
        phrase = f"The {phrase}"
    return f"{_capitalised(phrase)} is {value}."


def _timed(question: TimeQuestion, result: Result | None) -> str:
    if result is None:
        return "I was offered no clock, so I cannot tell the time."
    if result.is_error:
        return f"I could not tell the time: {sentence(result.text)}"
    text = _moment(result)
    if question.place and question.zone:
        return f"In {question.place} it is {text}."
    if question.place:
        return f"I do not know the time zone of {question.place}. It is {text}."
    return f"It is {text}."


def _moment(result: Result) -> str:
    """The time as people say it, where the tool tells its parts."""
    data = result.data.fields
    if "time" not in data or "weekday" not in data:
        return result.text.strip().rstrip(".")
    time, zone = data["time"].string_value, data["time_zone"].string_value
    return f"{data['weekday'].string_value}, {time[:10]}, {time[11:16]} ({zone or 'UTC'})"


def _tool_said(request: ToolRequest, result: Result | None) -> str:
    if request.missing:
        return f"To call {request.tool} I need: {', '.join(request.missing)}."
    if result is None:
        return f"{request.tool} gave no answer."
    if result.is_error:
        return f"{request.tool} failed: {sentence(result.text)}"
    return f"{request.tool}: {shortened(result.text, _LONGEST_RESULT)}"


def _looked_up(
    lookup: Lookup,
    result: Result | None,
    said: Sequence[str],
    citations: Citations,
    *,
    alone: bool,
) -> str:
    if result is not None and result.is_error:
        return f"I could not search the documents: {sentence(result.text)}"
    if result is not None:
        candidates = candidates_in_results([result])
        if lookup.subject:
            found = mentions(lookup, candidates)
            if found:
                return _mentioned(lookup.subject, found, citations)
        else:
            found = best_sentences(lookup, candidates)
            if found:
                return " ".join(_quoted(each, citations) for each in found)
    earlier = best_sentences(lookup, candidates_in_texts(said), enough=ENOUGH_IN_CONVERSATION)
    if earlier:
        return f"Earlier in this conversation: “{shortened(earlier[0].text, LONGEST_QUOTE)}”"
    if result is None:
        return INTRODUCTION if alone else f"I cannot search documents here for: {lookup.question}."
    return NOT_FOUND if alone else f"{NOT_FOUND.removesuffix('.')}: {lookup.question}."


def _mentioned(subject: str, found: Sequence[Candidate], citations: Citations) -> str:
    plural = subject.endswith("s") and not subject.endswith(("ss", "us", "is"))
    places = [f"{_place(each)}: {_quote(each, citations)}" for each in found]
    listed = places[0] if len(places) == 1 else "; ".join(places[:-1]) + f"; and {places[-1]}"
    return f"{_capitalised(subject)} {'are' if plural else 'is'} mentioned in {listed}."


def _quoted(candidate: Candidate, citations: Citations) -> str:
    return f"From {_place(candidate)}: {_quote(candidate, citations)}."


def _place(candidate: Candidate) -> str:
    citation = candidate.citation
    if citation is None:
        return "what the search returned"
    name = citation.uri or citation.title or citation.document
    if citation.start_line and citation.end_line > citation.start_line:
        return f"{name} (lines {citation.start_line}-{citation.end_line})"
    if citation.start_line:
        return f"{name} (line {citation.start_line})"
    return f"{name} (page {citation.page})" if citation.page else name


def _quote(candidate: Candidate, citations: Citations) -> str:
    text = f"“{shortened(candidate.text, LONGEST_QUOTE)}”"
    if candidate.citation is None:
        return text
    return f"{text} [{citations.number(candidate.citation)}]"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
