"""Ports for servers that are yet to begin."""

import pytest

from tier import ports


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was given one, or named one, listens later; meanwhile nobody else is given it."""
    monkeypatch.setattr(ports, "_OURS", (13_000, 13_030))
    named = next(port for port in range(13_000, 13_030) if ports.is_free(port))
    ports.require_free(named, "a test")
    given = [ports.free_ports(1)[0] for _ in range(10)]
    assert len({named, *given}) == 11
