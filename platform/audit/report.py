"""What an audit has to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from audit.finding import Finding
from audit.recent import ON_ITS_WAY


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one audit."""

    # By stream: up to which sequence the log was read. What came later was not looked at.
    horizons: Mapping[str, int]
    # When that was.
    looked_at_until: datetime
    # Empty for all tenants.
    tenant: str
    findings: tuple[Finding, ...]
    # Findings that are not listed, because there are so many.
    findings_left_off: int
    # How many tasks are in each state, by the state's name.
    tasks: Mapping[str, int]
    # What was looked at, by its name, such as `events` and `charges`.
    counts: Mapping[str, int]
    # What is allowed and worth knowing, in a sentence each.
    remarks: tuple[str, ...]
    seconds: float

    @property
    def horizon(self) -> int:
        """How many messages had been stored, in all streams together."""
        return sum(self.horizons.values())

    @property
    def judged_until(self) -> datetime:
        """What was spent later may not have reached every store: it was not judged."""
        return self.looked_at_until - ON_ITS_WAY

    @property
    def clean(self) -> bool:
        """Whether every invariant holds."""
        return not self.findings
