"""Words the answer from what the tools returned, with citations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.arithmetic import Calculation
from services.reasoning.offline.citations import Citations
from services.reasoning.offline.date_questions import DateQuestion, answer_date_question
from services.reasoning.offline.delegations import Delegation
from services.reasoning.offline.extraction import (
    ENOUGH_IN_CONVERSATION,
    best_sentences,
    mentions,
)
from services.reasoning.offline.follow_ups import both
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
from services.reasoning.offline.unit_conversions import Conversion
from services.reasoning.offline.wait_answers import asked, delegated, paused
from services.reasoning.offline.word_problems import WordProblem

NOT_FOUND: Final = "I did not find this in the documents."
INTRODUCTION: Final = (
    "I am Agentmesh's offline model: rules, not a language model. I can calculate, tell the time,"
    " call tools by name and quote your documents, where these tools are offered."
)
_LONGEST_RESULT: Final = 2000
_MOST_DECIMALS: Final = 6
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
    # Whether anything was found or done of what was asked.
    found: bool


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said about one step."""

    text: str
    found: bool = True


def answer(
    steps: Sequence[Step],
    results: Mapping[int, Result],
    *,
    said: Sequence[str],
    citations: Citations,
) -> Answer:
    """The answer to a plan.

    Args:
        steps: The plan.
        results: What tools returned, by the step's index.
        said: The conversation before.
        citations: Takes the passages that the answer rests on.
    """
    if not steps:
        return Answer(INTRODUCTION, citations.cited, found=False)
    further = {
        step.goes_on_from: index
        for index, step in enumerate(steps)
        if step.goes_on_from is not None
    }
    first = [step for step in steps if step.goes_on_from is None]
    sentences: list[_Said] = []
    for index, step in enumerate(first):
        result = results.get(index)
        if isinstance(step.subject, Lookup):
            hop = further.get(index)
            looked_up = _looked_up(
                step.subject,
                result,
                steps[hop] if hop is not None else None,
                results.get(hop) if hop is not None else None,
                said,
                citations,
                alone=len(first) == 1,
            )
            sentences.append(looked_up)
        else:
            sentences.append(_done(step, result, citations))
    text = " ".join(each.text for each in sentences)
    text = text.replace(" \n\n", "\n\n").replace("\n\n ", "\n\n")
    return Answer(text.strip(), citations.cited, found=any(each.found for each in sentences))


def answer_unplanned(question: str, results: Sequence[Result], citations: Citations) -> Answer:
    """The answer from tools that somebody else planned to call."""
    sentences: list[_Said] = []
    for result in results:
        if result.citations and not result.is_error:
            lookup = make_lookup(question)
            sentences.append(_looked_up(lookup, result, None, None, [], citations, alone=True))
        elif result.is_error:
            sentences.append(_Said(f"{result.tool} failed: {sentence(result.text)}", found=False))
        else:
            sentences.append(_Said(f"{result.tool}: {shortened(result.text, _LONGEST_RESULT)}"))
    text = " ".join(each.text for each in sentences)
    return Answer(text, citations.cited, found=any(each.found for each in sentences))


def _done(step: Step, result: Result | None, citations: Citations) -> _Said:
    """What is said about a step that looks nothing up."""
    found = result is not None and not result.is_error
    match step.subject:
        case Calculation() as calculation:
            return _Said(_calculated(calculation, result), found)
        case WordProblem() as problem:
            return _Said(_read_as(problem, result), found)
        case Conversion() as conversion:
            return _Said(_converted(conversion, result), found)
        case DateQuestion() as question:
            text, known = _dated(question, result)
            return _Said(text, known)
        case TimeQuestion() as question:
            return _Said(_timed(question, result), found)
        case ToolRequest() as request:
            return _Said(_tool_said(request, result), found)
        case PersonQuestion() as question:
            return _Said(asked(question, result), found)
        case Pause() as pause:
            return _Said(paused(pause, result), found)
        case Delegation() as delegation:
            # A list stands by itself.
            return _Said(f"\n\n{delegated(delegation, result, citations)}\n\n", found)
        case Lookup():
            raise AssertionError("look-ups are worded elsewhere")


def _calculated(calculation: Calculation, result: Result | None) -> str:
    phrase = calculation.phrase
    if result is None:
        return f"I was offered no calculator, so I cannot say what {phrase} is."
    if result.is_error:
        return f"I could not calculate {phrase}: {sentence(result.text)}"
    value = _value(result)
    if phrase.lower().startswith(_NO_SUBJECT):
        return f"{_capitalised(phrase)}: {value}."
    if phrase.lower().startswith(_WANTS_ARTICLE):
        phrase = f"The {phrase}"
    return f"{_capitalised(phrase)} is {value}."


def _read_as(problem: WordProblem, result: Result | None) -> str:
    """The result of a story with the calculation that it was read as, to be checked."""
    if result is None:
        return f"I was offered no calculator. I read this as {problem.expression}."
    if result.is_error:
        return f"I could not calculate {problem.expression}: {sentence(result.text)}"
    value = _value(result)
    told = f"{problem.unit}{value}" if problem.unit == "$" else f"{value} {problem.unit}".strip()
    return f"I read this as {problem.expression}, which is {told}."


def _converted(conversion: Conversion, result: Result | None) -> str:
    phrase, unit = conversion.phrase, conversion.unit
    if result is None:
        return f"I was offered no calculator, so I cannot say what {phrase} is in {unit}."
    if result.is_error:
        return f"I could not convert {phrase} to {unit}: {sentence(result.text)}"
    value = _value(result)
    _, point, decimals = value.partition(".")
    if point and len(decimals) > _MOST_DECIMALS and "e" not in decimals.lower():
        rounded = round(Decimal(value.removeprefix("about ")), _MOST_DECIMALS)
        # What rounds to nothing is told as it is.
        if rounded:
            value = f"about {rounded.normalize():f}"
    return f"{_capitalised(phrase)} in {unit}: {value}."


def _dated(question: DateQuestion, result: Result | None) -> tuple[str, bool]:
    """The answer to a question about dates, and whether there is one."""
    if question.needs_today and result is None:
        return "I was offered no clock, so I do not know what day it is.", False
    if result is not None and result.is_error:
        return f"I could not find out what day it is: {sentence(result.text)}", False
    today: date | None = None
    if result is not None:
        try:
            today = date.fromisoformat(result.text.strip()[:10])
        except ValueError:
            return f"I do not understand the clock, which says: {sentence(result.text)}", False
    text = answer_date_question(question, today)
    return (text, True) if text else (f"There is no such date: {question.question}", False)


def _value(result: Result) -> str:
    """What a calculator says, and whether these are all of its digits."""
    data = result.data.fields
    exact = "exact" not in data or data["exact"].bool_value
    # Some tools write the whole equation.
    value = result.text.rpartition("=")[2].strip().rstrip(".")
    return value if exact else f"about {value}"


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
    hop: Step | None,
    further: Result | None,
    said: Sequence[str],
    citations: Citations,
    *,
    alone: bool,
) -> _Said:
    """What the documents say, else what was said before, else that nobody said it.

    `further` is what a second search returned that went on from `result`.
    """
    if result is not None and result.is_error:
        return _Said(f"I could not search the documents: {sentence(result.text)}", found=False)
    if result is not None:
        if hop is not None and isinstance(hop.subject, Lookup) and further is not None:
            hopped = both(lookup, hop.subject, result, further)
            if hopped:
                return _Said(" ".join(_quoted(each, citations) for each in hopped))
        candidates = candidates_in_results([result])
        if lookup.subject:
            found = mentions(lookup, candidates)
            if found:
                return _Said(_mentioned(lookup.subject, found, citations))
        else:
            found = best_sentences(lookup, candidates)
            if found:
                return _Said(" ".join(_quoted(each, citations) for each in found))
    earlier = best_sentences(lookup, candidates_in_texts(said), enough=ENOUGH_IN_CONVERSATION)
    if earlier:
        return _Said(f"Earlier in this conversation: “{shortened(earlier[0].text, LONGEST_QUOTE)}”")
    if result is None:
        text = INTRODUCTION if alone else f"I cannot search documents here for: {lookup.question}."
        return _Said(text, found=False)
    told = NOT_FOUND if alone else f"{NOT_FOUND.removesuffix('.')}: {lookup.question}."
    return _Said(told, found=False)


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
