"""Test-only: where the person sits who reads times."""

import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose local zone is UTC."""
    yield from _zone("UTC", monkeypatch)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose local zone is Berlin's."""
    yield from _zone("Europe/Berlin", monkeypatch)


def _zone(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()
