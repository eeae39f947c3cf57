"""What the offline model does next in a conversation: call tools, or answer."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline import judging, planning
from services.reasoning.offline.answer import Answer, answer, answer_unplanned
from services.reasoning.offline.citations import Citations
from services.reasoning.offline.follow_ups import follow_ups
from services.reasoning.offline.phases import BLOCKED, Phase, returned_parts, unfit
from services.reasoning.offline.plan import Planner, Step
from services.reasoning.offline.schema_filling import fill
from services.reasoning.offline.turn import Turn, Work, read_turn

Result = conversation_pb2.ToolResult


@dataclass(frozen=True, slots=True)
class Reply:
    """Tool calls, or an answer."""

    calls: Sequence[conversation_pb2.ToolCall] = ()
    text: str = ""
    citations: Sequence[conversation_pb2.Citation] = ()
    # Whether an answer of the shape that was asked for cannot be given.
    refused: bool = False


class Responder:
    """Answers by rules. The same conversation gets the same reply."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    def respond(
        self,
        messages: Sequence[conversation_pb2.Message],
        tools: Sequence[pb.ToolSpec],
        output_schema: str,
    ) -> Reply:
        """The next reply. With `output_schema` an answer to the person is JSON of that shape."""
        turn = read_turn(messages)
        match turn.phase:
            case Phase.PLAN:
                return Reply(text=planning.plan(turn, self._planner, tools))
            case Phase.CORRECTION:
                return Reply(text=planning.correct(turn, self._planner, tools))
            case Phase.DELEGATION:
                return Reply(text=planning.delegate(turn, self._planner))
            case Phase.CRITIQUE:
                own = self._pursue(turn.request, (), Citations())
                said = own.text if isinstance(own, Answer) else ""
                return Reply(text=judging.critique(turn, self._planner, said))
            case Phase.REVIEW:
                return Reply(text=judging.review(turn))
            case Phase.STEP:
                return self._carry_out(turn.work, tools)
            case Phase.ANSWER | Phase.REVISION | Phase.REQUEST:
                return self._speak(turn, tools, output_schema)

    def _carry_out(self, work: Work, tools: Sequence[pb.ToolSpec]) -> Reply:
        """One step of a plan."""
        pursued = self._pursue(work, tools, Citations())
        if isinstance(pursued, Reply):
            return pursued
        if pursued.found:
            return Reply(text=pursued.text, citations=pursued.citations)
        return Reply(text=f"{BLOCKED} {pursued.text}")

    def _speak(self, turn: Turn, tools: Sequence[pb.ToolSpec], output_schema: str) -> Reply:
        """The answer for the person."""
        citations = Citations()
        wrong = unfit(turn.request.request) if output_schema else ""
        if wrong:
            # Asked again, rules say the same.
            return Reply(text=f"I can give no answer of this shape: {wrong}", refused=True)
        if turn.phase is Phase.REVISION:
            # For the passages that the draft cites.
            self._pursue(turn.request, tools, citations)
            answered = Answer(judging.revision(turn), citations.cited, found=True)
        elif turn.phase is Phase.ANSWER and turn.done:
            answered = self._together(turn.done, tools, citations)
        elif turn.phase is Phase.ANSWER and turn.reviews:
            answered = Answer(_returned(turn.reviews), [], found=True)
        else:
            pursued = self._pursue(turn.request, tools, citations)
            if isinstance(pursued, Reply):
                return pursued
            answered = pursued
        if not output_schema:
            return Reply(text=answered.text, citations=answered.citations)
        filled = fill(output_schema, turn, answered)
        return Reply(
            text=filled.text, citations=answered.citations if not filled.refused else (),
            refused=filled.refused,
        )  # fmt: skip

    def _together(
        self, done: Sequence[Work], tools: Sequence[pb.ToolSpec], citations: Citations
    ) -> Answer:
        """What all steps found, each passage with one number."""
        texts: list[str] = []
        for work in done:
            pursued = self._pursue(work, tools, citations)
            # A step that still wants to call something found nothing.
            texts.append(pursued.text if isinstance(pursued, Answer) else "")
        text = " ".join(dict.fromkeys(each for each in texts if each))
        return Answer(text or "I found nothing.", citations.cited, found=bool(citations.cited))

    def _pursue(
        self, work: Work, tools: Sequence[pb.ToolSpec], citations: Citations
    ) -> Reply | Answer:
        """The calls that `work` takes next, or its answer."""
        steps = self._planner.plan(work.request, before=work.request_before, tools=tools)
        found = _found(steps, work)
        if work.results and not found:
            # Results that no step asked for are of calls that somebody else planned.
            return answer_unplanned(work.request, work.results, citations)
        calls = _next_round(steps, found)
        if not calls:
            steps = [*steps, *follow_ups(steps, found)]
            found = _found(steps, work)
            calls = _next_round(steps, found)
        if calls:
            return Reply(calls=[_call(work, index, steps[index]) for index in calls])
        return answer(steps, found, said=work.said, citations=citations)


def _call(work: Work, index: int, step: Step) -> conversation_pb2.ToolCall:
    call = conversation_pb2.ToolCall(call_id=_call_id(work, index), tool=step.tool)
    call.arguments.update(step.arguments)
    return call


def _next_round(steps: Sequence[Step], found: Container[int]) -> Sequence[int]:
    """The steps to be called now: all that can be, up to the next that waits."""
    together: list[int] = []
    for index, step in enumerate(steps):
        if step.callable:
            together.append(index)
        following = steps[index + 1] if index + 1 < len(steps) else None
        # What goes on from results comes in a round of its own.
        last = following is None or (
            following.goes_on_from is not None and step.goes_on_from is None
        )
        if (step.waits and step.callable) or last:
            if not any(each in found for each in together):
                return together
            together = []
    return ()


def _call_id(work: Work, index: int) -> str:
    """Unique in the conversation, and found again when the results are there."""
    return f"call-{work.calls_before + index + 1}"


def _found(steps: Sequence[Step], work: Work) -> Mapping[int, Result]:
    """The results by the step that asked for them."""
    by_id = {result.call_id: result for result in work.results}
    return {
        index: by_id[_call_id(work, index)]
        for index, step in enumerate(steps)
        if _call_id(work, index) in by_id and by_id[_call_id(work, index)].tool == step.tool
    }


def _returned(reviews: Sequence[str]) -> str:
    """What workers returned last for each of their parts."""
    parts = {part.number: part for each in reviews for part in returned_parts(each)}
    lines = [
        f"{number}. {parts[number].asked} → {parts[number].returned or 'nothing was returned'}"
        for number in sorted(parts)
    ]
    return "\n".join(lines)
