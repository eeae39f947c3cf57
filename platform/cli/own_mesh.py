"""The mesh of the data directory, for commands that are done to it and to no gateway."""

from cli.invocation import Invocation
from cli.problem import Problem
from tier import api as tiers


def own_mesh(invocation: Invocation) -> tiers.MeshState | None:
    """The mesh that runs on the data directory.

    Raises Problem where a gateway was named that is not its: another mesh is meant.
    """
    state = tiers.read_state(invocation.data_dir)
    # A port that nobody has in use harms nobody: there is no mesh to take for another.
    named = invocation.named_gateway if state else invocation.gateway
    if named and (state is None or named not in (state.address, state.tls_address)):
        raise Problem(
            f"{named} is not the mesh of data directory {invocation.data_dir}.",
            "This command goes by the directory: name it with --data-dir.",
            exit_code=2,
        )
    return state
