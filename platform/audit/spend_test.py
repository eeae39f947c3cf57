"""What counters must say."""

from datetime import UTC, datetime

import pytest

from audit.spend import Counted, CounterKey, Sums, counter_key, counts_wrongly, is_present
from audit.usage import Spent

_DAY = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
_TENANT = CounterKey("tenant", "acme", "", "day", _DAY)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("global:::day:7", CounterKey("global", "", "", "day", 7)),
        ("tenant:acme::month:7", CounterKey("tenant", "acme", "", "month", 7)),
        ("agent:acme:helper:day:7", CounterKey("agent", "acme", "helper", "day", 7)),
        ("session:acme:a:b~c:lifetime:0", CounterKey("session", "acme", "a:b~c", "lifetime", 0)),
        ("task:acme:t1:lifetime:0", None),
        ("call:acme/t1/1/2", None),
        ("expiry", None),
        ("tenant:acme::day:soon", None),
    ],
)
def test_a_counter_is_known_by_its_name(name: str, key: CounterKey | None) -> None:
    """A session's name may have colons of its own; caps of tasks are not compared."""
    assert counter_key(name) == key
    assert key is None or key.name == name


@pytest.mark.parametrize(
    ("window", "start", "now", "present"),
    [
        ("day", "2026-11-20T00:00", "2026-11-20T23:59", True),
        ("day", "2026-11-20T00:00", "2026-11-21T00:00", False),
        ("day", "2026-11-20T00:00", "2026-11-19T23:59", False),
        ("day", "2026-11-19T23:00", "2026-11-20T20:59", True),
        ("day", "2026-11-19T23:00", "2026-11-20T21:00", False),
        ("month", "2026-11-01T00:00", "2026-11-30T23:59", True),
        ("month", "2026-11-01T00:00", "2026-12-01T00:00", False),
        ("month", "2026-10-31T23:00", "2026-11-28T20:59", True),
        ("month", "2026-10-31T23:00", "2026-11-28T21:00", False),
        ("lifetime", "1970-01-01T00:00", "2026-11-20T00:00", True),
    ],
)
def test_a_window_is_judged_while_it_goes_on_for_certain(
    window: str, start: str, now: str, present: bool
) -> None:
    """To its last second in UTC; elsewhere a clock may be changed, which its name does not tell."""
    began = int(datetime.fromisoformat(f"{start}:00+00:00").timestamp())
    key = CounterKey("tenant", "acme", "", window, began)
    assert is_present(key, datetime.fromisoformat(f"{now}:00+00:00")) == present


def test_a_record_counts_under_each_scope_and_window_it_falls_into() -> None:
    """From the beginning of the window on, and under its own tenant alone."""
    keys = {
        "global": CounterKey("global", "", "", "day", _DAY),
        "tenant": _TENANT,
        "before": CounterKey("tenant", "acme", "", "month", _DAY - 1),
        "after": CounterKey("tenant", "acme", "", "day", _DAY + 1),
        "type": CounterKey("task-type", "acme", "chat", "day", _DAY),
        "other type": CounterKey("task-type", "acme", "", "day", _DAY),
        "agent": CounterKey("agent", "acme", "helper", "day", _DAY),
        "session": CounterKey("session", "acme", "s1", "lifetime", 0),
        "other tenant": CounterKey("tenant", "other", "", "day", _DAY),
    }
    sums = Sums(final_before=_DAY + 60)
    for key in keys.values():
        sums.track(key)
    sums.add(Spent(1, "acme", "k", "chat", "helper", "s1", 7, float(_DAY)))
    sums.add(Spent(2, "acme", "young", "chat", "helper", "s1", 5, _DAY + 60.0))
    least = {name: sums.least()[key] for name, key in keys.items()}
    most = {name: sums.most()[key] for name, key in keys.items()}
    counted = {"global", "tenant", "before", "type", "agent", "session"}
    assert least == {name: 7 if name in counted else 0 for name in keys}
    assert most == {name: 12 if name in counted else 5 if name == "after" else 0 for name in keys}


@pytest.mark.parametrize("spent", [7, 9, 12])
def test_what_is_on_its_way_may_be_counted_or_not(spent: int) -> None:
    """Between what must be counted and what can be, all is well."""
    assert counts_wrongly(_TENANT, Counted(spent, 3, 3), 7, 12) is None


@pytest.mark.parametrize(
    ("counted", "sentence"),
    [
        (Counted(13, 0, 0), "has 13 micro-dollars spent, and the journal 12."),
        (Counted(6, 0, 0), "has 6 micro-dollars spent, and the journal 7."),
        (Counted(7, 3, 2), "has 3 micro-dollars reserved, and its reservations are of 2."),
    ],
)
def test_a_counter_that_cannot_be_is_found(counted: Counted, sentence: str) -> None:
    """It is named with both figures."""
    found = counts_wrongly(_TENANT, counted, 7, 12)
    assert found is not None
    assert found.sentence == f"The counter tenant:acme::day:{_DAY} {sentence}"
    assert (found.invariant, found.tenant) == ("spend", "acme")
