"""What a user may ask of a benchmark; what makes no sense is refused here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bench.tasks.load import Client, Lane

Shape = Literal["constant", "poisson", "spike", "trace"]

MAX_IN_FLIGHT: Final = 10_000
MAX_PER_MINUTE: Final = 1_000_000
MAX_LATENCY_MS: Final = 10_000
MAX_EXECUTORS: Final = 16
MAX_BACKLOG: Final = 10_000_000
MAX_ROUNDS: Final = 100
MAX_SECONDS: Final = 3_600.0
# How many times its share the tenant that floods submits. Two tenants of one tier have equal
# shares, so its share is as many tasks as the other one submits.
FLOOD: Final = 100
# A backlog is compared with a queue of this length, which lasts as long as a rate takes.
BACKLOG_COMPARED: Final = 10_000
# So many arrivals are held in memory.
_MAX_ARRIVALS: Final = 2_000_000


class BadPlan(Exception):
    """The options make no sense; the text names the option and says what would."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option} {why}")
        self.option = option


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None where nothing was said."""

    seconds: float | None = None
    rounds: int | None = None
    warm_up: float = 5.0
    in_flight: int | None = None
    rate: float | None = None
    arrivals: Shape | None = None
    trace: Path | None = None
    speed: float | None = None
    base: float | None = None
    peak: float | None = None
    base_seconds: float | None = None
    peak_seconds: float | None = None
    after_seconds: float | None = None
    flood: bool = False
    backlog: int | None = None
    latency_ms: int = 0
    executors: int = 1
    tier: str = "staging"
    sync: Literal["always", "default"] | None = None
    no_mtls: bool = False
    client: Client = "run"
    lane: Lane | None = None
    seed: int = 1


def check(options: Options) -> None:
    """Refuses what is out of range, and what contradicts itself. Raises BadPlan."""
    _check_numbers(options)
    _check_together(options)
    rate = max(options.rate or 0.0, options.peak or 0.0) * (FLOOD if options.flood else 1)
    lasts = options.warm_up + (options.seconds or 10.0) * (options.rounds or 3)
    if rate / 60 * lasts > _MAX_ARRIVALS:
        raise BadPlan(
            "--rate", f"makes more than {_MAX_ARRIVALS:,} arrivals: take fewer or shorter rounds"
        )


def _check_numbers(options: Options) -> None:
    for option, value, least, most in (
        ("--seconds", options.seconds, 1.0, MAX_SECONDS),
        ("--rounds", options.rounds, 1, MAX_ROUNDS),
        ("--warm-up", options.warm_up, 0.0, MAX_SECONDS),
        ("--in-flight", options.in_flight, 1, MAX_IN_FLIGHT),
        ("--rate", options.rate, 1.0, MAX_PER_MINUTE / (FLOOD if options.flood else 1)),
        ("--speed", options.speed, 0.01, 10_000.0),
        ("--base", options.base, 1.0, MAX_PER_MINUTE),
        ("--peak", options.peak, 1.0, MAX_PER_MINUTE),
        ("--base-seconds", options.base_seconds, 1.0, MAX_SECONDS),
        ("--peak-seconds", options.peak_seconds, 1.0, MAX_SECONDS),
        ("--after-seconds", options.after_seconds, 1.0, MAX_SECONDS),
        ("--backlog", options.backlog, 1_000, MAX_BACKLOG),
        ("--latency-ms", options.latency_ms, 0, MAX_LATENCY_MS),
        ("--executors", options.executors, 1, MAX_EXECUTORS),
    ):
        # Written so that not-a-number is refused.
        if value is not None and not least <= value <= most:
            raise BadPlan(option, f"must be from {least:,.10g} to {most:,.10g}, not {value:.10g}")


def _check_together(options: Options) -> None:
    """Refuses options that contradict each other."""
    given = {
        "--in-flight": options.in_flight is not None,
        "--rate": options.rate is not None,
        "--arrivals": options.arrivals is not None,
        "--trace": options.trace is not None,
        "--speed": options.speed is not None,
        "--base": options.base is not None,
        "--peak": options.peak is not None,
        "--base-seconds": options.base_seconds is not None,
        "--peak-seconds": options.peak_seconds is not None,
        "--after-seconds": options.after_seconds is not None,
        "--flood": options.flood,
        "--backlog": options.backlog is not None,
        "--lane": options.lane is not None,
        "--seconds": options.seconds is not None,
        "--rounds": options.rounds is not None,
    }

    def refuse(option: str, others: tuple[str, ...], why: str) -> None:
        for other in others:
            if given[option] and given[other]:
                raise BadPlan(option, f"cannot go with {other}: {why}")

    refuse("--trace", ("--rate",), "the trace says when tasks arrive")
    refuse("--in-flight", ("--rate", "--arrivals", "--trace"), "a closed loop has no arrivals")
    refuse("--flood", ("--in-flight", "--arrivals", "--trace", "--rounds"), "the flood has its own")
    refuse(
        "--backlog",
        ("--in-flight", "--rate", "--arrivals", "--trace", "--flood", "--seconds", "--rounds"),
        "the tasks are queued beforehand",
    )
    refuse("--backlog", ("--lane",), "its tasks are those of STANDARD")
    if given["--speed"] and not given["--trace"]:
        raise BadPlan("--speed", "is that of a --trace")
    if options.trace is not None and options.arrivals not in (None, "trace"):
        raise BadPlan("--trace", f"cannot go with --arrivals {options.arrivals}")
    for option in ("--base", "--peak", "--base-seconds", "--peak-seconds", "--after-seconds"):
        if options.arrivals != "spike" and given[option]:
            raise BadPlan(option, "is for --arrivals spike")
    for option in ("--rate", "--seconds", "--rounds"):
        if options.arrivals == "spike" and given[option]:
            raise BadPlan(option, "does not go with --arrivals spike: it takes --base and --peak")
    if options.arrivals in ("constant", "poisson") and not given["--rate"]:
        raise BadPlan("--arrivals", f"{options.arrivals} needs --rate, in tasks a minute")
    if options.arrivals == "trace" and not given["--trace"]:
        raise BadPlan("--arrivals", "trace needs --trace FILE")
    if options.tier == "prototype" and options.executors > 1:
        raise BadPlan("--executors", "must be 1 with --tier prototype, which has one process")
