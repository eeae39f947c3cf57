"""Settings of the coordinator."""

from pathlib import Path

from pydantic import Field

from meshkit.service import ProcessSettings, Section


class CoordinatorSettings(Section):
    """How tasks are accepted."""

    max_input_bytes: int = Field(
        default=1 << 20, gt=0, le=1 << 20, description="Largest input of a task, in bytes."
    )
    read_model: str = Field(
        default="",
        description="Where the tasks that are listed are kept: a file of SQLite in the data"
        " directory, or `postgresql://USER@HOST:PORT/DATABASE`, which coordinators share."
        " The password may stand in PGPASSWORD.",
    )
    bootstrap_keys: Path | None = Field(
        default=None,
        description="A JSON file with hashes of the API keys that the mesh is started with: the"
        " first key of its owner. Read at start. A key that is not in it any more is refused.",
    )
    operators: list[str] = Field(
        default_factory=list[str],
        description="Callers that may set the queue policy, see the lanes of all tenants and"
        " rebuild the read model, beside those with the role of an operator or admin, such as"
        " `user:anonymous`; `*` is everybody.",
    )


class Settings(ProcessSettings):
    """Settings of a process that runs the coordinator alone."""

    coordinator: CoordinatorSettings = CoordinatorSettings()
