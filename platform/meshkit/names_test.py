"""Tests of resource names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import names
from meshkit.errors import InvalidField

_SHORT = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
_LONG = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_~:-]{0,127}", fullmatch=True)


@given(_SHORT, _SHORT)
def test_a_formatted_task_name_parses_into_its_parts(tenant: str, task: str) -> None:
    """Formatting and parsing are inverse."""
    name = names.TASK.format(tenant=tenant, task=task)
    assert names.TASK.parse(name, field="name") == (tenant, task)


@given(_SHORT, _LONG, _LONG)
def test_a_formatted_record_name_parses_into_its_parts(
    tenant: str, collection: str, record: str
) -> None:
    """Formatting and parsing are inverse with three parts too."""
    name = names.RECORD.format(tenant=tenant, collection=collection, record=record)
    assert names.RECORD.parse(name, field="name") == (tenant, collection, record)


@given(st.text(max_size=60))
def test_parts_never_carry_what_means_something_in_a_subject(text: str) -> None:
    """Whatever parses has no separator, blank or wildcard in its parts."""
    try:
        parts = names.SESSION.parse(f"tenants/a/sessions/{text}", field="session")
    except InvalidField:
        return
    assert not set(parts[1]) & set("./*> \t\r\n")


def test_a_malformed_name_is_refused_with_its_field_and_shape() -> None:
    """The error names the field, the pattern, and what was given."""
    with pytest.raises(InvalidField) as caught:
        names.TASK.parse("tasks/1", field="task.name")
    assert caught.value.violations[0].field == "task.name"
    assert "must look like 'tenants/{tenant}/tasks/{task}'" in caught.value.message
    assert "not 'tasks/1'" in caught.value.message


def test_a_malformed_part_cannot_be_formatted() -> None:
    """A part with a slash cannot be smuggled into a name."""
    with pytest.raises(InvalidField, match=r"^task: must be 1 to 63 lower-case letters"):
        names.TASK.format(tenant="a", task="b/c")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tenants/a/agents/writer", ("a", "writer", None)),
        ("tenants/a/agents/writer@12", ("a", "writer", 12)),
    ],
)
def test_an_agent_name_may_carry_a_version(
    name: str, expected: tuple[str, str, int | None]
) -> None:
    """The version is a number, or None where the name has none."""
    assert names.parse_agent(name, field="agent") == expected


@pytest.mark.parametrize("name", ["tenants/a/agents/writer@0", "tenants/a/agents/writer@latest"])
def test_an_agent_version_is_a_number_from_one(name: str) -> None:
    """Anything else behind the @ is refused."""
    with pytest.raises(InvalidField, match="a number from 1"):
        names.parse_agent(name, field="agent")
