"""Who may have money set aside and charged."""

from collections.abc import Collection
from typing import Final

from meshkit import identity
from meshkit.constants import SERVICE_CALLER
from meshkit.errors import Forbidden


class Spenders:
    """Services, which make model calls for tenants; users do not settle what nobody used."""

    def __init__(self, others: Collection[str] = ()) -> None:
        """`others`: callers besides services that may, by name, as the mesh knows them."""
        self._others: Final = frozenset(others)

    def require_caller(self) -> None:
        """Forbidden unless a service makes the call that is being served."""
        caller = identity.current().caller
        if not caller.startswith(SERVICE_CALLER) and caller not in self._others:
            raise Forbidden(
                f"{caller} is no service, and only services may admit and settle model calls."
            )
