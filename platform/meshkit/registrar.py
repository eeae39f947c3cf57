"""How services come to be served: by their handlers, wrapped."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from meshwire.server import Server

# Makes the handlers of a service, by method, into those that are served.
Wrap = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class Registrar:
    """Stands in for the server while services register.

    Generated code adds every method twice, in an older form and in one that names each method,
    in which handlers can be wrapped: that one is taken.
    """

    def __init__(self, server: Server, wrap: Wrap | None = None) -> None:
        """`wrap` makes the handlers into those that are served; None serves them as they are."""
        self._server: Final = server
        self._wrap: Final = wrap

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Adds nothing."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the handlers, wrapped."""
        self._server.add(service, self._wrap(service, handlers) if self._wrap else handlers)
