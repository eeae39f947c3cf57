"""What went wrong, as the person at the terminal is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_SAY_WHEN: Final = ("Try again in ", "come back in ")


class Problem(Exception):
    """Something that the user can act on: one sentence on what is wrong, one on what to do."""

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Report:
    """An error, ready to be printed."""

    message: str
    remedy: str = ""
    exit_code: int = 1
    # The gRPC code and the ErrorInfo reason, where a service gave them.
    code: str = ""
    reason: str = ""
    # (field, description) of every wrong field of the request.
    violations: Sequence[tuple[str, str]] = ()
    retry_after_seconds: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def line(self) -> str:
        """The report in one line."""
        text = self.message.rstrip()
        if text and text[-1] not in ".!?":
            text += "."
        # A single violation is the message already.
        if len(self.violations) > 1 and not all(name in text for name, _ in self.violations):
            text += " " + "; ".join(f"{name}: {what}" for name, what in self.violations) + "."
        # The service may have said so itself.
        said = any(each in text for each in _SAY_WHEN)
        if self.retry_after_seconds is not None and not said:
            text += f" Try again in {self.retry_after_seconds:.3g} s."
        if self.reason:
            text += f" ({self.reason})"
        if self.remedy:
            text += f" {self.remedy}"
        return " ".join(text.split())

    def document(self) -> dict[str, Any]:
        """The report as JSON; what is not known is left out."""
        error: dict[str, Any] = {"message": self.message}
        if self.remedy:
            error["remedy"] = self.remedy
        if self.code:
            error["code"] = self.code
        if self.reason:
            error["reason"] = self.reason
        if self.violations:
            error["violations"] = [
                {"field": name, "description": what} for name, what in self.violations
            ]
        if self.retry_after_seconds is not None:
            error["retry_after_seconds"] = self.retry_after_seconds
        if self.metadata:
            error["metadata"] = dict(self.metadata)
        return {"error": error}
