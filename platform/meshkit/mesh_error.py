"""The error that callers may see: a code, a reason, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that is wrong, and what would be right."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A quota that stands in the way: its resource name, and how it is used up."""

    subject: str
    description: str


class MeshError(Exception):
    """An error whose text is meant for the caller.

    Subclasses set `code` and `reason`; a reason is the name of an ErrorReason
    of `agentmesh.errors.v1` without its prefix. Everything else that is raised
    stays inside the process and reaches callers as INTERNAL.
    """

    code: grpc.StatusCode
    reason: str

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_seconds: float | None = None,
        quota: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds
        self.quota = tuple(quota)
