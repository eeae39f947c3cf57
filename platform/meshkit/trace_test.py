"""Tests of the trace context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import trace


@given(st.binary(min_size=24, max_size=24), st.booleans())
def test_a_span_survives_its_header(ids: bytes, sampled: bool) -> None:
    """Writing and reading a traceparent gives the same span."""
    span = trace.Span("1" + ids[:16].hex()[1:], "1" + ids[16:].hex()[1:], sampled)
    assert trace.parse(span.traceparent) == span


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"01-{'1' * 32}-{'1' * 16}-01",
        f"00-{'A' * 32}-{'1' * 16}-01",
    ],
)
def test_a_malformed_header_is_ignored(header: str) -> None:
    """A header that breaks the rules counts as none."""
    assert trace.parse(header) is None


def test_a_child_stays_in_its_trace() -> None:
    """A child has its parent's trace and a span id of its own."""
    parent = trace.child(random_hex=lambda count: "a1" * count)
    with trace.use(parent):
        span = trace.child(random_hex=lambda count: "b2" * count)
    assert span == trace.Span("a1" * 16, "b2" * 8, sampled=True)
    assert trace.current() is None
