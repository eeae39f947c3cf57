"""How services come to be served: their handlers wrapped, in the form that costs less."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from meshwire.server import Server

# Makes the handlers of a service, by method, into those that are served.
Wrap = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class Registrar:
    """Stands in for the server while services register.

    Generated code adds every method twice. Of the registered form, gRPC waits for a call of
    each method by itself, and begins to wait for all of them anew with every call: that is a
    fifth of what both ends of a call cost, where there are 40. So handlers are taken from the
    registered form, in which they can be wrapped, and added in the generic one.
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
