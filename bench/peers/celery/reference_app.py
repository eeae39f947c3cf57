"""The reference task's steps as Celery tasks, for a chain."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import os

from celery import Celery

from bench.peers import reference_task

app = Celery(
    "reference", broker=os.environ["REFERENCE_REDIS"], backend=os.environ["REFERENCE_REDIS"]
)
app.conf.update(
    # A worker that dies loses no step: it is taken off the queue when it is done.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
)


@app.task
def model(text: str) -> str:
    """The stub model."""
    return reference_task.model(text)


@app.task
def tool(text: str) -> str:
    """The stub tool."""
    return reference_task.tool(text)
