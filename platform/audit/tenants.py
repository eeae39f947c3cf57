"""Nothing crosses tenants."""

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from tasklog import subjects


def check(entry: Entry) -> Finding | None:
    """An event about another task than its subject says, or with a parent elsewhere."""
    event, task = entry.event, entry.task
    name = subjects.task_name(task.tenant, task.task_id)
    if event.task != name:
        return _finding(entry, f"it is about {event.task or 'no task'}")
    if entry.kind == "submitted":
        submitted = event.submitted.task
        if submitted.name != name:
            return _finding(entry, f"it submits {submitted.name or 'no task'}")
        if submitted.tenant != task.tenant:
            return _finding(entry, f"it submits a task of {submitted.tenant or 'no tenant'}")
    parent = event.status.parent_task
    if parent and not parent.startswith(f"tenants/{task.tenant}/tasks/"):
        return _finding(entry, f"its parent is {parent}")
    return None


def _finding(entry: Entry, what: str) -> Finding:
    return finding(
        Invariant.TENANT,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) stands in the log of"
        f" {entry.task.task_id}, tenant {entry.task.tenant}, but {what}.",
        entry.stream_sequence,
    )
