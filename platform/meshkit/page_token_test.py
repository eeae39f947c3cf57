"""Page tokens lead to the next page of the same query, and to nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.coordinator.v1.coordinator_service_pb2 import ListTasksRequest
from meshkit import page_token
from meshkit.errors import InvalidField, InvalidPageToken


@given(st.binary(min_size=8, max_size=8), st.text(min_size=1, max_size=60))
def test_a_token_gives_its_position_back(query: bytes, position: str) -> None:
    """Whatever the position is, it survives."""
    if any("\ud800" <= character <= "\udfff" for character in position):
        return
    assert page_token.decode(query, page_token.encode(query, position)) == position


@given(st.text(max_size=80))
def test_any_other_text_is_refused(token: str) -> None:
    """A made-up token is an error of the caller, never a fault."""
    if not token:
        assert page_token.decode(b"12345678", token) is None
        return
    with pytest.raises(InvalidPageToken):
        page_token.decode(b"\x00" * 8, token)


def test_a_token_is_bound_to_the_filters_and_not_to_the_page() -> None:
    """Another page size is the same query; another filter is not."""
    query = page_token.query_of(ListTasksRequest(parent="tenants/acme", page_size=3))
    assert query == page_token.query_of(ListTasksRequest(parent="tenants/acme", page_token="x"))
    other = page_token.query_of(ListTasksRequest(parent="tenants/acme", session="s"))
    with pytest.raises(InvalidPageToken) as caught:
        page_token.decode(other, page_token.encode(query, "p"))
    assert str(caught.value) == (
        "page_token was given for another request: keep all other fields as they were."
    )


def test_page_sizes_have_a_default_and_a_limit() -> None:
    """0 is the default, a large one is cut, a negative one is refused."""
    assert page_token.page_size(0, default=50) == 50
    assert page_token.page_size(5000, default=50) == 1000
    with pytest.raises(InvalidField) as caught:
        page_token.page_size(-1, default=50)
    assert caught.value.violations[0].field == "page_size"
