"""Who may change what holds for all tenants, and see what concerns all of them."""

from collections.abc import Sequence
from typing import Final

from meshkit import identity
from meshkit.errors import Forbidden

_EVERYBODY: Final = "*"


class Operators:
    """Callers with the role of an operator or more, and others by name."""

    def __init__(self, callers: Sequence[str]) -> None:
        """`callers`: who counts as one whatever its role, such as `user:anonymous`; `*` for all."""
        self._callers = frozenset(callers)

    def include_caller(self) -> bool:
        """Whether the call that is being served is an operator's."""
        who = identity.current()
        return who.role.operates or bool({who.caller, _EVERYBODY} & self._callers)

    def require_caller(self, to_do: str) -> None:
        """Forbidden unless the call that is being served is an operator's."""
        if not self.include_caller():
            raise Forbidden(
                f"{identity.current().caller} is no operator, and only operators may {to_do}."
            )
