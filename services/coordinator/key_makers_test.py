"""Who makes and revokes keys, and for whom: nobody gives what they have not."""

import pytest

from agentmesh.access.v1 import access_service_pb2 as pb
from meshkit.errors import (
    ApiKeyNotFound,
    Forbidden,
)
from meshkit.identity import Role
from meshtest.clock import FakeClock
from services.coordinator.access_world import ADMIN, Coordinator, Made, Who, after

pytest_plugins = ["services.coordinator.fixture_access"]


def _caller(made: Made, role: Role = Role.OPERATOR) -> Who:
    """Who calls with a key of acme's."""
    return Who("acme", f"key:{made.key.name.rpartition('/')[2]}", role)


class TestPowers:
    """Nobody gives what they have not."""

    async def test_no_higher_role(self, coordinator: Coordinator) -> None:
        """An operator makes users and operators, and no admin."""
        await coordinator.create(role=pb.ROLE_OPERATOR)
        with pytest.raises(Forbidden) as raised:
            await coordinator.create(role=pb.ROLE_ADMIN)
        assert str(raised.value) == (
            "user:ann has the role operator, and to make a key with the role admin takes admin."
        )

    async def test_no_further_scopes(self, coordinator: Coordinator) -> None:
        """A key with scopes makes keys within them, and none without."""
        limited = await coordinator.create(role=pb.ROLE_OPERATOR, scopes=["keys", "tasks:*"])
        caller = _caller(limited)

        made = await coordinator.create(by=caller, scopes=["tasks:read"])
        assert made.key.creator == caller.caller
        with pytest.raises(Forbidden) as raised:
            await coordinator.create(by=caller, scopes=["tasks:read", "docs:read", "operate"])
        assert str(raised.value) == (
            f"{caller.caller} is limited to keys, tasks:read, tasks:write, and cannot make a key"
            " for docs:read, operate."
        )
        with pytest.raises(Forbidden) as raised:
            await coordinator.create(by=caller)
        assert str(raised.value) == (
            f"{caller.caller} is limited to keys, tasks:read, tasks:write, and cannot make a key"
            " without scopes."
        )

    async def test_no_later_end(self, coordinator: Coordinator, clock: FakeClock) -> None:
        """A key that ends makes keys that end with it or before, and none for ever."""
        ending = await coordinator.create(role=pb.ROLE_OPERATOR, expire_time=after(clock, 60))
        caller = _caller(ending)

        assert (await coordinator.create(by=caller, expire_time=after(clock, 60))).text
        for beyond in ({}, {"expire_time": after(clock, 61)}):
            with pytest.raises(Forbidden) as raised:
                await coordinator.create(by=caller, **beyond)
            assert str(raised.value) == (
                f"{caller.caller} ends at 2026-01-01 00:01:00 UTC, and cannot make a key that ends"
                " later, or never."
            )

    async def test_a_key_without_scopes_is_limited_by_its_role(
        self, coordinator: Coordinator
    ) -> None:
        """It may give any scope."""
        free = await coordinator.create(role=pb.ROLE_OPERATOR)
        assert (await coordinator.create(by=_caller(free), scopes=["operate"])).text

    async def test_no_other_tenant(self, coordinator: Coordinator) -> None:
        """Who is no admin neither makes, sees nor revokes keys of others, known or not."""
        theirs = await coordinator.create(by=ADMIN, tenant="beta")
        text = "user:ann acts for tenant acme, and the keys of other tenants take the role admin."
        unknown = "tenants/beta/apiKeys/abcdefgh"
        for call in (
            coordinator.create(tenant="beta"),
            coordinator.list(tenant="beta"),
            coordinator.revoke(theirs.key.name),
            coordinator.revoke(unknown),
        ):
            with pytest.raises(Forbidden) as raised:
                await call
            assert str(raised.value) == text
        assert await coordinator.list() == []

    async def test_an_id_of_another_tenant_is_unknown(self, coordinator: Coordinator) -> None:
        """Under one's own tenant's name another's key is as one that there never was."""
        theirs = await coordinator.create(by=ADMIN, tenant="beta")
        key_id = theirs.key.name.rpartition("/")[2]
        with pytest.raises(ApiKeyNotFound):
            await coordinator.revoke(f"tenants/acme/apiKeys/{key_id}")

    async def test_an_admin_manages_all_tenants(self, coordinator: Coordinator) -> None:
        """It makes, sees and revokes the keys of any."""
        made = await coordinator.create(by=ADMIN, tenant="beta", role=pb.ROLE_ADMIN)
        assert [each.name for each in await coordinator.list(by=ADMIN, tenant="beta")] == [
            made.key.name
        ]
        assert (await coordinator.revoke(made.key.name, by=ADMIN)).revoker == "user:root"

    async def test_a_higher_key_is_not_revoked(self, coordinator: Coordinator) -> None:
        """An operator cannot shut out an admin of the same tenant."""
        made = await coordinator.create(by=ADMIN, tenant="acme", role=pb.ROLE_ADMIN)
        with pytest.raises(Forbidden) as raised:
            await coordinator.revoke(made.key.name)
        assert str(raised.value) == (
            "user:ann has the role operator, and to revoke this key takes admin."
        )
        assert await coordinator.verdict(made.text) == "passed"

    async def test_services_have_no_keys(self, coordinator: Coordinator) -> None:
        """Who comes past the gateway has no role, and manages none."""
        with pytest.raises(Forbidden) as raised:
            await coordinator.create(by=Who("acme", "service:executor", Role.SERVICE))
        assert str(raised.value) == (
            "service:executor has no role, and API keys take one. Call through the gateway."
        )

    async def test_a_key_that_is_gone_makes_none(self, coordinator: Coordinator) -> None:
        """A caller by a key that nobody knows, or that was just revoked, gets nothing."""
        with pytest.raises(Forbidden) as raised:
            await coordinator.create(by=Who("acme", "key:abcdefgh"))
        assert str(raised.value) == "There is no key:abcdefgh any more."
        revoked = await coordinator.create(role=pb.ROLE_OPERATOR)
        await coordinator.revoke(revoked.key.name)
        with pytest.raises(Forbidden):
            await coordinator.create(by=_caller(revoked))
