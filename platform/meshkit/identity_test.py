"""Tests of identities."""

import asyncio

import pytest

from meshkit import identity
from meshkit.errors import Forbidden, InvalidField, Unauthenticated
from meshkit.identity import Identity, Role

_ADA = Identity("ada", "service:executor")


def test_an_identity_survives_metadata_and_headers() -> None:
    """What is written to metadata or headers reads back as the same identity."""
    assert identity.from_metadata(identity.to_metadata(_ADA)) == _ADA
    assert identity.from_headers(identity.to_headers(_ADA)) == _ADA


def test_a_missing_tenant_is_unauthenticated() -> None:
    """Without a tenant and without a default, there is no identity."""
    with pytest.raises(Unauthenticated, match="names no tenant"):
        identity.from_metadata([])


def test_a_missing_tenant_may_have_a_default() -> None:
    """Where a default is given, it stands for a missing tenant."""
    assert identity.from_metadata([], default_tenant="default") == Identity("default", "anonymous")


@pytest.mark.parametrize("tenant", ["A", "-a", "a/b", "a" * 64, "a.b", "a b", "ä"])
def test_a_malformed_tenant_is_refused(tenant: str) -> None:
    """A tenant is lower-case letters, digits and hyphens, at most 63."""
    with pytest.raises(InvalidField, match="x-agentmesh-tenant"):
        identity.make(tenant, "user:1")


def test_outside_of_a_call_there_is_no_identity() -> None:
    """Asking for the identity outside of any call is refused."""
    with pytest.raises(Unauthenticated):
        identity.current()
    assert identity.current_or_none() is None


def test_an_identity_holds_inside_its_block_only() -> None:
    """`use` sets the identity and puts the former one back."""
    with identity.use(_ADA):
        assert identity.current() == _ADA
    assert identity.current_or_none() is None


async def test_concurrent_calls_keep_their_own_identity() -> None:
    """Each asyncio task sees the identity that it adopted."""

    async def served(who: Identity) -> Identity:
        identity.adopt(who)
        await asyncio.sleep(0)
        return identity.current()

    bob = Identity("bob", "user:bob")
    assert await asyncio.gather(served(_ADA), served(bob)) == [_ADA, bob]


def test_a_resource_of_another_tenant_is_forbidden() -> None:
    """A name is accepted only under the caller's own tenant."""
    with identity.use(_ADA):
        identity.require_tenant("tenants/ada/tasks/1")
        identity.require_tenant("tenants/ada")
        with pytest.raises(Forbidden, match="does not own 'tenants/adam/tasks/1'"):
            identity.require_tenant("tenants/adam/tasks/1")


def test_the_gateway_says_the_role() -> None:
    """A role stands in the metadata of the gateway's calls, and reaches no further."""
    ada = identity.from_metadata(
        [
            ("x-agentmesh-tenant", "ada"),
            ("x-agentmesh-caller", "user:ada"),
            ("x-agentmesh-role", "operator"),
        ]
    )
    assert ada == Identity("ada", "user:ada", Role.OPERATOR)
    assert identity.from_metadata(identity.to_metadata(ada)).role is Role.SERVICE
    assert identity.from_headers(identity.to_headers(ada)).role is Role.SERVICE


def test_a_service_has_no_other_role() -> None:
    """Whatever is said of it, a service has the role of services."""
    assert identity.make("ada", "service:executor", "admin").role is Role.SERVICE


def test_an_unknown_role_is_refused() -> None:
    """A role that nobody knows is an error, not no role."""
    with pytest.raises(InvalidField, match="must be one of service, user, operator, admin"):
        identity.make("ada", "user:ada", "root")
