"""Settings of the executor."""

from pydantic import Field

from meshkit.service import ProcessSettings, Section


class ExecutorSettings(Section):
    """How tasks are run. Workers, attempts and pauses stand in the policy, not here."""

    model_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest wait for one model call."
    )
    tool_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Longest wait for one tool call."
    )
    memory_timeout_seconds: float = Field(
        default=2.0, gt=0, description="Longest wait for the memory of a session."
    )
    context_tokens: int = Field(
        default=4000, gt=0, le=1_000_000, description="Tokens of a session given to the model."
    )


class Settings(ProcessSettings):
    """Settings of a process that runs an executor alone."""

    executor: ExecutorSettings = ExecutorSettings()
