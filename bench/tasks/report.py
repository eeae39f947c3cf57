"""What a benchmark found, as figures."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.tasks.drive import CLIENT, Drive
from bench.tasks.latencies import Latencies
from bench.tasks.load import Second, Window
from bench.tasks.plan import Plan
from bench.tasks.usage import Usage

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_MINUTE_SECONDS: Final = 60.0
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Round:
    """What happened in one window of the load."""

    name: str
    # Whether it counts for the medians.
    counted: bool
    seconds: float
    # Tasks that ended in it.
    tasks: int
    # Of the first tenant's tasks that began in it, by percentile, in milliseconds.
    latency_ms: Mapping[float, float]
    max_ms: float
    # By process, in milliseconds for each task that ended.
    cpu_ms: Mapping[str, float]
    # How many processors were busy on average, the client's included.
    cores: float
    # How much the mesh's folder grew, and what was handed to the disk, for each task.
    data_bytes: float
    written_bytes: float

    @property
    def tasks_per_minute(self) -> float:
        """How many tasks ended in a minute of it."""
        return self.tasks / self.seconds * _MINUTE_SECONDS

    @property
    def cpu_ms_per_task(self) -> float:
        """Of all processes, the client's included."""
        return sum(self.cpu_ms.values())

    @property
    def cpu_ms_per_task_without_client(self) -> float:
        """Of the mesh alone."""
        return self.cpu_ms_per_task - self.cpu_ms.get(CLIENT, 0.0)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "counted": self.counted,
            "seconds": round(self.seconds, 3),
            "tasks": self.tasks,
            "tasks_per_minute": round(self.tasks_per_minute, 1),
            **{_key(percent): round(value, 3) for percent, value in self.latency_ms.items()},
            "max_ms": round(self.max_ms, 3),
            "cpu_ms_per_task": round(self.cpu_ms_per_task, 4),
            "cpu_ms_per_task_without_client": round(self.cpu_ms_per_task_without_client, 4),
            "cpu_ms_by_process": {name: round(each, 4) for name, each in self.cpu_ms.items()},
            "cores": round(self.cores, 3),
            "data_bytes_per_task": round(self.data_bytes, 1),
            "written_bytes_per_task": round(self.written_bytes, 1),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What the audit of the mesh's own data said."""

    clean: bool
    # How many tasks are in each state.
    tasks: Mapping[str, int]
    # A sentence each.
    findings: Sequence[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "clean": self.clean,
            "tasks": dict(self.tasks),
            "findings": list(self.findings),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark, done."""

    plan: Plan
    rounds: tuple[Round, ...]
    submitted: int
    # Tasks that the mesh is known to have accepted.
    accepted: int
    # How often each error came, by its text.
    errors: Mapping[str, int]
    # Processes of the mesh that died though nobody told them to, a sentence each.
    deaths: Sequence[str]
    proof: Proof
    # The most resident memory of each process.
    rss_bytes: Mapping[str, int]
    seconds: Sequence[Second] = ()
    # How long after a spike its latency was that of the base again; None where it never was.
    recovery_seconds: float | None = None
    # What only one kind of benchmark has to say.
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def lost(self) -> int:
        """Tasks that the mesh has accepted, and of which its log knows nothing."""
        return max(self.accepted - self._stored, 0)

    @property
    def doubled(self) -> int:
        """Tasks in the mesh's log beyond those that were submitted."""
        return max(self._stored - self.submitted, 0)

    @property
    def unproven(self) -> int:
        """Tasks that succeeded for the client, and that the log has in another state."""
        # Nobody waits for the tasks of a backlog: most are still queued when it is measured.
        if self.plan.backlog:
            return 0
        return max(self.accepted - self.lost - self.proof.tasks.get("SUCCEEDED", 0), 0)

    @property
    def _stored(self) -> int:
        return sum(self.proof.tasks.values())

    @property
    def good(self) -> bool:
        """Whether nothing failed or died, every task is there once, tasks ended in every round
        that counts, and the audit is clean.
        """
        wrong = self.errors or self.deaths or self.lost or self.doubled or self.unproven
        return not wrong and not self.empty and self.proof.clean

    @property
    def empty(self) -> tuple[str, ...]:
        """The rounds that count in which no task ended: their figures say nothing."""
        return tuple(each.name for each in self.counted if not each.tasks)

    @property
    def counted(self) -> tuple[Round, ...]:
        """The rounds that count for the medians."""
        return tuple(each for each in self.rounds if each.counted)

    def to_json(self) -> dict[str, Any]:
        """As plain values: the medians first, then everything."""
        mesh = self.plan.mesh
        counted = self.counted
        return {
            **(_medians(counted) if counted else {}),
            "title": self.plan.title,
            "tier": mesh.tier.value,
            "executors": mesh.executors,
            "sync": "always" if mesh.flushes else "default",
            "latency_ms": mesh.latency_ms,
            "client": self.plan.client,
            "lane": self.plan.lane,
            "rounds": [each.to_json() for each in self.rounds],
            "submitted": self.submitted,
            "accepted": self.accepted,
            "errors": dict(self.errors),
            "deaths": list(self.deaths),
            "lost": self.lost,
            "doubled": self.doubled,
            "unproven": self.unproven,
            "audit": self.proof.to_json(),
            "rss_mb": {name: round(size / _MEGABYTE, 1) for name, size in self.rss_bytes.items()},
            **({"recovery_seconds": self.recovery_seconds} if self.plan.spike_end else {}),
            **self.extra,
            "by_second": [
                {
                    "began": each.began,
                    "completed": each.completed,
                    "p50_ms": each.p50_ms,
                    "p99_ms": each.p99_ms,
                }
                for each in self.seconds
            ],
            "good": self.good,
        }


def rounds(plan: Plan, drive: Drive) -> tuple[Round, ...]:
    """The rounds of a load, from what happened and what was used between its marks."""
    return tuple(
        _round(name, name in plan.counted, window, plan.streams[0].tenant, before, after)
        for name, window, before, after in zip(
            plan.windows, drive.outcome.windows, drive.used, drive.used[1:], strict=False
        )
    )


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[-1]


def recovery(plan: Plan, seconds: Sequence[Second]) -> float | None:
    """How long after a spike tasks took no longer than before it; None where that never came.

    That is: the first of three seconds with arrivals in a row whose p99 is at most half as
    long again as that of the median second of the base. One stall in the base, which has few
    tasks, does not move that.
    """
    if plan.spike_end is None:
        return None
    begin, end = int(plan.marks[0]), int(plan.marks[1])
    base = [each.p99_ms for each in seconds[begin:end] if each.began]
    limit = statistics.median(base) * _BASE_RANGE if base else 0.0
    run: list[int] = []
    for number, each in enumerate(seconds):
        if number < plan.spike_end or not each.began:
            continue
        run = [*run, number] if each.p99_ms <= limit else []
        if len(run) == _IN_A_ROW:
            return round(run[0] - plan.spike_end, 1)
    return None


_IN_A_ROW: Final = 3
# What is no slower than so many times the base is in its range.
_BASE_RANGE: Final = 1.5


def fairness(plan: Plan, drive: Drive) -> dict[str, Any]:
    """How a tenant fares beside one that floods, against how it fares alone; else nothing."""
    if "alone" not in plan.windows:
        return {}
    by_name = dict(zip(plan.windows, drive.outcome.windows, strict=True))
    alone, beside = (
        _latencies(by_name[name], plan.streams[0].tenant) for name in ("alone", "beside")
    )
    ratios = {
        _key(percent).replace("_ms", "_ratio"): round(
            beside.percentile_ms(percent) / max(alone.percentile_ms(percent), 0.001), 3
        )
        for percent in (50.0, 99.0)
    }
    return {
        "fairness": {
            "alone_p99_ms": alone.percentile_ms(99),
            "beside_p99_ms": beside.percentile_ms(99),
            "tasks_alone": alone.count,
            "tasks_beside": beside.count,
            "refused": drive.outcome.refused,
            **ratios,
        }
    }


def _latencies(window: Window, tenant: str) -> Latencies:
    encoded = window.latencies.get(tenant)
    return Latencies.decode(encoded) if encoded else Latencies()


def _round(
    name: str, counted: bool, window: Window, tenant: str, before: Usage, after: Usage
) -> Round:
    latencies = _latencies(window, tenant)
    tasks = max(window.completed, 1)
    cpu = {
        process: after.cpu_seconds[process] - before.cpu_seconds.get(process, 0.0)
        for process in after.cpu_seconds
    }
    return Round(
        name=name,
        counted=counted,
        seconds=window.seconds,
        tasks=window.completed,
        latency_ms={percent: latencies.percentile_ms(percent) for percent in PERCENTILES},
        max_ms=latencies.max_ms,
        # A process that was started again in between has used less than before.
        cpu_ms={process: max(used, 0.0) / tasks * 1000 for process, used in cpu.items()},
        cores=sum(max(used, 0.0) for used in cpu.values()) / window.seconds,
        data_bytes=(after.data_bytes - before.data_bytes) / tasks,
        written_bytes=(after.written_bytes - before.written_bytes) / tasks,
    )


def _medians(counted: Sequence[Round]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, digits, values in (
        ("tasks_per_minute", 1, [each.tasks_per_minute for each in counted]),
        ("cpu_ms_per_task", 4, [each.cpu_ms_per_task for each in counted]),
        *(
            (_key(percent), 3, [each.latency_ms[percent] for each in counted])
            for percent in PERCENTILES
        ),
        (
            "cpu_ms_per_task_without_client",
            4,
            [each.cpu_ms_per_task_without_client for each in counted],
        ),
        ("cores", 3, [each.cores for each in counted]),
    ):
        median, least, most = spread(values)
        figures[name] = round(median, digits)
        figures[f"{name}_range"] = [round(least, digits), round(most, digits)]
    return figures


def _key(percent: float) -> str:
    """`p50_ms`, `p99_9_ms`."""
    return f"p{percent:g}_ms".replace(".", "_")
