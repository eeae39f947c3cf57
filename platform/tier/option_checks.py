"""Whether what a mesh is started with makes sense, before anything is made or started."""

import ipaddress
import threading

from tier.failures import BadOptions
from tier.options import MAX_PORT, MeshOptions, Tier


def check(options: MeshOptions) -> None:
    """BadOptions, with what would do, where the options cannot be followed."""
    if not 0 <= options.port <= MAX_PORT:
        raise BadOptions(
            f"The port {options.port} is none: choose 1 to {MAX_PORT}, or 0 for a free one."
        )
    executors, replicas = (
        1 if each is None else each for each in (options.executors, options.replicas)
    )
    if executors < 1:
        raise BadOptions(f"{executors} executors run nothing: choose 1 or more.")
    if replicas < 1:
        raise BadOptions(f"{replicas} replicas serve nobody: choose 1 or more.")
    if executors > 1 and options.tier is Tier.PROTOTYPE:
        raise BadOptions(
            "The prototype runs one executor in its one process: "
            "choose --tier staging for more, or 1 executor."
        )
    if replicas > 1 and options.tier is Tier.PROTOTYPE:
        raise BadOptions(
            "The prototype runs each service once, in its one process: "
            "choose --tier staging for more, or 1 replica."
        )
    _check_listen(options)
    if threading.current_thread() is not threading.main_thread():
        raise BadOptions("A mesh is started from the main thread, with which its children end.")


def _check_listen(options: MeshOptions) -> None:
    try:
        address = ipaddress.ip_address(options.listen)
    except ValueError:
        raise BadOptions(
            f"{options.listen} is no address to listen on: "
            "choose one of this machine's, such as 192.0.2.7, or 0.0.0.0 for all."
        ) from None
    if address.is_loopback:
        return
    if options.tier is Tier.PROTOTYPE:
        raise BadOptions(
            f"The prototype has neither TLS nor credentials and does not listen on {address}: "
            "choose --tier staging, which has both, or leave --listen out."
        )
    if options.no_auth:
        raise BadOptions(
            f"Without credentials nothing listens on {address}, beyond this machine: "
            "leave --no-auth out, or --listen."
        )
