"""Every event stands where those look who must act on it."""

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from tasklog import subjects

# Where an event stands and where it belongs. Once all that ended tasks stood under `log`;
# nobody has to act on it, and who waits for an end looks there, too.
_AS_GOOD = frozenset({("log", "end")})


def check(entry: Entry) -> list[Finding]:
    """An event under another subject than its content demands, and a wait for nothing."""
    found: list[Finding] = []
    token = subjects.token_of(entry.event)
    if entry.token != token and (entry.token, token) not in _AS_GOOD:
        found.append(_finding(entry, f"stands under {entry.token!r}, not under {token!r}"))
    if entry.kind == "waiting" and entry.event.waiting.wait.WhichOneof("reason") is None:
        found.append(_finding(entry, "waits for nothing"))
    return found


def stray(entry: Entry, stream: str, home: str) -> Finding:
    """An event in another stream than the one in which its tenant's tasks are looked for."""
    return finding(
        Invariant.LOST,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) stands in {stream}, where nobody looks for"
        f" tasks of {entry.task.tenant}: those are in {home}.",
        entry.stream_sequence,
        stream=stream,
    )


def _finding(entry: Entry, what: str) -> Finding:
    return finding(
        Invariant.LOST,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) {what}: nobody will act on it.",
        entry.stream_sequence,
    )
