"""Tests of who counts as an operator."""

import pytest

from meshkit import identity
from meshkit.errors import Forbidden
from meshkit.identity import Identity, Role
from meshkit.operators import Operators


@pytest.mark.parametrize(
    ("role", "included"),
    [(Role.SERVICE, False), (Role.USER, False), (Role.OPERATOR, True), (Role.ADMIN, True)],
)
def test_the_role_makes_an_operator(role: Role, included: bool) -> None:
    """Operators and admins count, tenants' users and services do not."""
    with identity.use(Identity("ada", "user:ada", role)):
        assert Operators([]).include_caller() is included


def test_callers_may_be_named() -> None:
    """Who is named counts, whatever its role; everybody else is told so."""
    operators = Operators(["user:root"])
    with identity.use(Identity("ada", "user:root")):
        operators.require_caller("look")
    with (
        identity.use(Identity("ada", "user:ada", Role.USER)),
        pytest.raises(Forbidden, match="user:ada is no operator, and only operators may look"),
    ):
        operators.require_caller("look")
