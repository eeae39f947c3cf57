"""Nothing crosses tenants."""

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding


def foreign(entry: Entry) -> Finding | None:
    """An event about another task than its subject says."""
    event, task = entry.event, entry.task
    # Not by `names`, which checks the parts: a subject's have the right shape.
    name = f"tenants/{task.tenant}/tasks/{task.task_id}"
    if event.task != name:
        return _finding(entry, f"it is about {event.task or 'no task'}")
    if entry.kind == "submitted":
        submitted = event.submitted.task
        if submitted.name != name:
            return _finding(entry, f"it submits {submitted.name or 'no task'}")
        if submitted.tenant != task.tenant:
            return _finding(entry, f"it submits a task of {submitted.tenant or 'no tenant'}")
    return None


def check(entry: Entry) -> list[Finding]:
    """A child whose parent is another tenant's."""
    parent = entry.event.status.parent_task
    if entry.kind != "submitted" or not parent or is_parent(parent, entry.task.tenant):
        return []
    return [_finding(entry, f"its parent is {parent}")]


def is_parent(name: str, tenant: str) -> bool:
    """Whether a task of `tenant` may have the parent called `name`."""
    return name.startswith(f"tenants/{tenant}/tasks/")


def _finding(entry: Entry, what: str) -> Finding:
    return finding(
        Invariant.TENANT,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) stands in the log of"
        f" {entry.task.task_id}, tenant {entry.task.tenant}, but {what}.",
        entry.stream_sequence,
    )
