"""What callers may give away: never more than they have."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2 import ApiKey
from meshkit.errors import Forbidden
from meshkit.identity import Role
from services.coordinator.key_powers import Maker, role_name, role_number
from services.coordinator.key_scopes import SCOPES

_RANK = {Role.SERVICE: 0, Role.USER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}
_TENANTS = st.sampled_from(["acme", "beta"])
_ENDS = st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 3), timezones=st.just(UTC))
_SOME_SCOPES = st.frozensets(st.sampled_from(SCOPES[:4]))


@dataclass(frozen=True)
class _Wish:
    """A key that somebody asks for."""

    tenant: str
    key: ApiKey


def _maker(tenant: str, role: Role, scopes: frozenset[str], ends: datetime | None) -> Maker:
    return Maker(tenant, "key:old", role, scopes or None, ends)


def _wish(tenant: str, role: pb.Role, scopes: frozenset[str], ends: datetime | None) -> _Wish:
    return _Wish(tenant, ApiKey(role=role, scopes=sorted(scopes), expire_time=ends))


_makers = st.builds(_maker, _TENANTS, st.sampled_from(list(Role)), _SOME_SCOPES, _ENDS)
_wishes = st.builds(
    _wish,
    _TENANTS,
    st.sampled_from([pb.ROLE_USER, pb.ROLE_OPERATOR, pb.ROLE_ADMIN]),
    _SOME_SCOPES,
    _ENDS,
)


def _make(maker: Maker, wish: _Wish) -> Maker:
    """Who calls with the key that `maker` made."""
    maker.require_tenant(wish.tenant)
    maker.require_powers(wish.key)
    role = Role(role_name(wish.key.role))
    ends = wish.key.expire_time.ToDatetime(tzinfo=UTC) if wish.key.HasField("expire_time") else None
    return Maker(wish.tenant, "key:new", role, frozenset(wish.key.scopes) or None, ends)


@given(first=_makers, wishes=st.lists(_wishes, max_size=6))
def test_no_chain_of_keys_leads_upwards(first: Maker, wishes: list[_Wish]) -> None:
    """Whoever makes keys that make keys ends with no more role, scope, tenant or time than
    at first.
    """
    maker = first
    for wish in wishes:
        with suppress(Forbidden):
            maker = _make(maker, wish)
    assert _RANK[maker.role] <= _RANK[first.role]
    if first.scopes is not None:
        assert maker.scopes is not None
        assert maker.scopes <= first.scopes
    if first.ends is not None:
        assert maker.ends is not None
        assert maker.ends <= first.ends
    if first.role is not Role.ADMIN:
        assert maker.tenant == first.tenant


@given(maker=_makers.filter(lambda maker: maker.role is not Role.SERVICE))
def test_everybody_can_give_what_they_have(maker: Maker) -> None:
    """A key of the same tenant, role, scopes and end is never refused."""
    scopes = sorted(maker.scopes or ())
    key = ApiKey(role=role_number(maker.role), scopes=scopes, expire_time=maker.ends)
    assert _make(maker, _Wish(maker.tenant, key)).role is maker.role


@pytest.mark.parametrize("role", [Role.USER, Role.OPERATOR, Role.ADMIN])
def test_roles_have_the_policys_names(role: Role) -> None:
    """There and back."""
    assert role_name(role_number(role)) == str(role)
