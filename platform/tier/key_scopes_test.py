"""The scopes of API keys, in the policy and in the service that makes keys."""

from services.coordinator.key_scopes import SCOPES
from tier import policy_contracts


def test_keys_take_the_scopes_of_the_policy() -> None:
    """What a key can be limited to is what the policy lets through by that name, and all of it."""
    assert sorted(SCOPES) == sorted(policy_contracts.shipped().scopes)
