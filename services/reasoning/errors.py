"""What the governor's refusals say to callers."""

from meshkit.errors import BudgetExhausted, QuotaViolation, RateLimited
from services.reasoning.governor import Verdict


def budget_exhausted(verdict: Verdict) -> BudgetExhausted:
    """A budget is spent: its name, and when it starts again."""
    metadata = {"budget": verdict.budget}
    until = ""
    if verdict.resets_at is not None:
        metadata["resets_at"] = verdict.resets_at.isoformat().replace("+00:00", "Z")
        until = f" until {metadata['resets_at']}"
    return BudgetExhausted(
        f"The budget {verdict.budget} is spent{until}.{_why(verdict)}",
        metadata=metadata,
        quota=[QuotaViolation(verdict.budget, verdict.explanation)],
    )


def throttled(verdict: Verdict) -> RateLimited:
    """A budget slows calls down: its name, and when to come back."""
    return RateLimited(
        f"The budget {verdict.budget} slows calls down;"
        f" come back in {verdict.retry_after_seconds:g} s.{_why(verdict)}",
        metadata={"budget": verdict.budget},
        retry_after_seconds=verdict.retry_after_seconds,
    )


def _why(verdict: Verdict) -> str:
    return f" {verdict.explanation}" if verdict.explanation else ""
