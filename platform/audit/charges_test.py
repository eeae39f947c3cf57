"""Which charges may have no step in the log, and which may not."""

import pytest

from audit import charges
from audit.charges import Charge, Repeated, Unrecorded
from audit.entry import Entry
from audit.finding import Finding, TaskKey
from audit.written_log import written

_TASK = TaskKey("acme", "t1")
_DIED_ONCE = ("submitted", "started", "started", "model_called", "completed")
_CANCELLED = ("submitted", "started", "model_called", "cancel_requested", "cancelled")
_RETRIED = ("submitted", "started", "retried", "started", "model_called", "completed")


def _charge(step: int, start: int, cost_micros: int = 7) -> Charge:
    return Charge(_TASK, step, start, cost_micros)


def _findings(said: list[Finding | Unrecorded | Repeated]) -> list[str]:
    return [each.sentence for each in said if isinstance(each, Finding)]


@pytest.mark.parametrize(
    ("log", "charge"),
    [
        (written(*_DIED_ONCE), _charge(1, 2)),
        (written(*_CANCELLED), _charge(2, 2)),
        (written(*_RETRIED), _charge(1, 2)),
    ],
    ids=["the executor died", "the task was cancelled", "the attempt failed"],
)
def test_an_attempt_may_end_between_a_charge_and_its_record(
    log: list[Entry], charge: Charge
) -> None:
    """That is told, and no finding."""
    assert list(charges.judge([charge], log, {})) == [Unrecorded(charge)]


@pytest.mark.parametrize(
    "charge", [_charge(1, 3), _charge(2, 3)], ids=["recorded since", "under way"]
)
def test_what_goes_on_is_not_judged(charge: Charge) -> None:
    """The attempt may yet record the step, or has done so since the log was read."""
    log = written("submitted", "started", "started", "model_called")
    assert list(charges.judge([charge], log, {})) == []


@pytest.mark.parametrize(
    ("charge", "sentence"),
    [
        (
            _charge(1, 4),
            "7 micro-dollars were charged under t1/1/4, but event 4 of its log began no attempt.",
        ),
        (
            _charge(1, 3, cost_micros=9),
            "9 micro-dollars were charged under t1/1/3, but the log records a cost of 7.",
        ),
        (
            _charge(3, 3),
            "7 micro-dollars were charged under t1/3/3, but the attempt made no such model step.",
        ),
        (
            _charge(2, 2),
            "7 micro-dollars were charged under t1/2/2, but the attempt made no such model step.",
        ),
    ],
)
def test_a_charge_that_no_attempt_can_have_made_is_found(charge: Charge, sentence: str) -> None:
    """It names what was charged, and why it cannot be."""
    assert _findings(list(charges.judge([charge], written(*_DIED_ONCE), {}))) == [sentence]


def test_a_step_that_a_former_attempt_had_recorded_is_not_charged_again() -> None:
    """The next attempt goes on after it."""
    log = written("submitted", "started", "model_called", "started", "completed")
    assert _findings(list(charges.judge([_charge(1, 4)], log, {}))) == [
        "7 micro-dollars were charged under t1/1/4, but the step was recorded before the attempt"
        " began."
    ]


def test_a_step_is_made_again_once() -> None:
    """Two attempts may die in it; a third one should not have begun."""
    log = written("submitted", "started", "started", "started", "dead_lettered")
    twice = [_charge(1, 2), _charge(1, 3)]
    assert _findings(list(charges.judge(twice, log, {}))) == []
    log = written("submitted", "started", "started", "started", "started", "dead_lettered")
    (found,) = (
        said
        for said in charges.judge([*twice, _charge(1, 4)], log, {})
        if isinstance(said, Finding)
    )
    assert found.sentence == (
        "Step 1 was charged in 3 attempts that died in it; a step is made again once."
    )
    assert found.stream_sequences == (2, 3, 4)


def test_a_redriven_task_may_die_as_often_again() -> None:
    """It is a new attempt on the same log."""
    died = ("started", "started", "dead_lettered")
    log = written("submitted", *died, "redriven", *died)
    four = [_charge(1, start) for start in (2, 3, 6, 7)]
    assert _findings(list(charges.judge(four, log, {}))) == []


def test_a_log_with_a_gap_says_nothing_of_charges() -> None:
    """What is missing may be what they are for; the gap is a finding of its own."""
    log = written(*_DIED_ONCE)
    del log[3]
    assert list(charges.judge([_charge(1, 3)], log, {})) == []


def test_a_call_that_was_made_again_is_paid_again() -> None:
    """The record is of one of them; the others are told, whichever came first."""
    log = written(*_DIED_ONCE)
    second = _charge(1, 3, cost_micros=9)._replace(call="2")
    first = _charge(1, 3, cost_micros=9)
    place = first.place
    assert list(charges.judge([second], log, {place: 2})) == [Repeated(second)]
    assert list(charges.judge([first], log, {place: 2})) == [Repeated(first)]


def test_of_calls_made_again_one_is_recorded() -> None:
    """Where the log records none of their costs, each is wrong."""
    log = written(*_DIED_ONCE)
    first = _charge(1, 3, cost_micros=9)
    second = first._replace(call="2", cost_micros=8)
    assert _findings(list(charges.judge([first, second], log, {first.place: 2}))) == [
        "9 micro-dollars were charged under t1/1/3, but the log records a cost of 7.",
        "8 micro-dollars were charged under t1/1/3#2, but the log records a cost of 7.",
    ]


def test_calls_made_again_in_one_attempt_are_one_death() -> None:
    """It is the attempts that are counted."""
    log = written("submitted", "started", "started", "started", "dead_lettered")
    three = [_charge(1, 2), _charge(1, 2)._replace(call="2"), _charge(1, 3)]
    assert _findings(list(charges.judge(three, log, {_charge(1, 2).place: 2}))) == []


@pytest.mark.parametrize(
    ("key", "call"),
    [
        ("t1/1/2", ""),
        ("t1/1/2#13", "13"),
        ("t1/1/2#01j9z", "01j9z"),
        ("t1/1/2#2#01j9z", "2#01j9z"),
        ("t1/1/2#hedge", "hedge"),
        ("t1/1/2#meta/llama-3.1:8b", "meta/llama-3.1:8b"),
    ],
)
def test_a_key_says_which_call_it_is(key: str, call: str) -> None:
    """The first has no number."""
    charge = charges.charge_of("acme", key, 7)
    assert charge == Charge(_TASK, 1, 2, 7, call)
    assert charge is not None
    assert charge.key == key


@pytest.mark.parametrize(
    "key",
    ["01j9", "t1/1", "t1/x/2", "t1/1/2/3", "t1/0/2", "T1/1/2", "t1/1/2 ", "t1/1/2#", "t1/1/2# 2"],
)
def test_only_keys_of_steps_are_looked_at(key: str) -> None:
    """Clients are charged, too, under keys of their own."""
    assert charges.charge_of("acme", key, 7) is None
