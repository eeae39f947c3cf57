"""What a configuration says of issuers."""

from typing import Any

import pytest
from pydantic import ValidationError

from tier.gateway_settings import IssuerSettings

_LEAST = {"name": "https://id.example.com", "audiences": ["agentmesh"], "jwks": "id.json"}


def test_an_issuer_of_whom_nothing_is_said_may_give_the_least() -> None:
    """A configuration from before there were bounds goes on, with users of one tenant."""
    issuer = IssuerSettings.model_validate(_LEAST)
    assert (issuer.max_role, issuer.tenants) == ("user", ["default"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_role", "service"),
        ("max_role", "root"),
        ("tenants", []),
        ("tenants", ["Acme"]),
        ("tenants", ["acme", "**"]),
        ("tenants", "acme"),
    ],
)
def test_bounds_that_are_none_are_refused(field: str, value: Any) -> None:
    """By the name of the field."""
    with pytest.raises(ValidationError) as caught:
        IssuerSettings.model_validate({**_LEAST, field: value})
    assert {each["loc"][0] for each in caught.value.errors()} == {field}
