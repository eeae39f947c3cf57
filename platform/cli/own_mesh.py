"""The mesh of the data directory, for commands that are done to it and to no gateway."""

from pathlib import Path

from cli.invocation import Invocation
from cli.problem import Problem
from tier import api as tiers


def own_mesh(invocation: Invocation) -> tiers.MeshState | None:
    """The mesh that runs on the data directory.

    Raises Problem where a gateway was named that is not its: another mesh is meant. And where
    the directory is another user's.
    """
    state = state_of(invocation.data_dir)
    # A port that nobody has in use harms nobody: there is no mesh to take for another.
    named = invocation.named_gateway if state else invocation.gateway
    if named and (state is None or named not in (state.address, state.tls_address)):
        raise Problem(
            f"{named} is not the mesh of data directory {invocation.data_dir}.",
            "This command goes by the directory: name it with --data-dir.",
            exit_code=2,
        )
    return state


def state_of(data_dir: Path) -> tiers.MeshState | None:
    """The mesh that runs on `data_dir`; Problem where this user may not know."""
    state = tiers.read_state(data_dir)
    if state is None:
        try:
            data_dir.joinpath("run", "state.json").stat()
        except PermissionError as error:
            raise Problem(
                f"The data directory {data_dir} is another user's: {error.strerror}.",
                "Run the command as that user, or name the mesh with --gateway HOST:PORT and a key"
                " for it with --key FILE.",
            ) from None
        except OSError:
            pass  # there is none
    return state
