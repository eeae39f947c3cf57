"""What the client process is told to do, and what it says about it; both as JSON."""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import TypeAdapter

# The ways in which a client waits for results; see submitters.py.
Client = Literal["run", "follow", "batch"]
# The lanes of tasks.
Lane = Literal["interactive", "standard", "batch"]


@dataclass(frozen=True, slots=True)
class Stream:
    """Tasks of one tenant: a closed loop, or arrivals."""

    tenant: str
    # Tasks under way at the same time in a closed loop; 0 for an open loop.
    in_flight: int = 0
    # Open loop: when tasks arrive, in seconds from the beginning.
    arrivals: tuple[float, ...] = ()
    # Whether it sends more than the tenant may: what its limits refuse is no error then.
    floods: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What to submit, and for how long."""

    # The gateway's `host:port`.
    address: str
    # Id of the agent; every tenant has it.
    agent: str
    client: Client
    streams: tuple[Stream, ...]
    # Ends of the windows in seconds from the beginning; what comes before the first is warm-up.
    marks: tuple[float, ...]
    # How long a task may take before it counts as an error.
    task_seconds: float
    # How long connecting may take.
    connect_seconds: float = 10.0
    lane: Lane = "standard"


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two marks."""

    seconds: float
    # Tasks that ended in it.
    completed: int
    # Of the tasks that began in it, or were meant to, by tenant; see `Latencies.encode`.
    latencies: dict[str, str]


@dataclass(frozen=True, slots=True)
class Second:
    """What happened in one second."""

    # Tasks that began in it, or were meant to; and tasks that ended.
    began: int
    completed: int
    # Of the tasks that began in it.
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that came of a load."""

    submitted: int
    succeeded: int
    # How often each error came, by its text; tasks that ended in another way among them.
    errors: dict[str, int] = field(default_factory=dict[str, int])
    windows: tuple[Window, ...] = ()
    seconds: tuple[Second, ...] = ()
    # Of streams that flood: tasks that the tenant's limits refused.
    refused: int = 0


LOAD: Final = TypeAdapter(Load)
OUTCOME: Final = TypeAdapter(Outcome)
