"""Which keys came before, as far back as memory goes."""

from typing import Final


class SeenKeys:
    """Remembers at least the last `size` keys, and never twice as many."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._new: set[tuple[str, str]] = set()
        self._old: set[tuple[str, str]] = set()

    def add(self, tenant: str, key: str) -> bool:
        """Whether the tenant's key is new here; it is not from now on."""
        each = (tenant, key)
        if each in self._new or each in self._old:
            return False
        if len(self._new) >= self._size:
            self._new, self._old = set(), self._new
        self._new.add(each)
        return True
