"""One address under every name."""


class Everywhere(dict[str, str]):
    """Targets of channels that all lead to the same place: one server, or a gateway."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def __missing__(self, key: str) -> str:
        return self._address
