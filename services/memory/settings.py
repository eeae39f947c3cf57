"""Memory's settings."""

from pydantic import Field, SecretStr, model_validator

from meshkit.service import ProcessSettings, Section


class MemorySettings(Section):
    """Memory's section of the settings."""

    # Of each session so many of the newest messages are kept.
    session_messages: int = Field(default=10_000, ge=1, le=1_000_000)
    # About how many tokens a passage has. The embedder looks at the first 256.
    passage_tokens: int = Field(default=200, ge=16, le=2_000)
    # How many tokens a passage repeats of the one before it.
    overlap_tokens: int = Field(default=40, ge=0)
    # The embedding model; empty for the default of the reasoning service.
    embedding_model: str = ""
    # Texts in one call for embeddings. The embedder makes batches of its own; a
    # call of few texts stays far from its time limit on a busy machine, too.
    embedding_batch: int = Field(default=32, ge=1, le=256)
    # Calls for embeddings at a time.
    embedding_calls: int = Field(default=2, ge=1, le=64)
    # Time limit of one such call, in seconds.
    embedding_timeout_seconds: float = Field(default=120.0, gt=0)
    # Calls that take documents in at a time; as many as 32 more wait.
    concurrent_upserts: int = Field(default=4, ge=1, le=64)
    # Address of a Qdrant server; None to keep the vectors in the data directory.
    qdrant_url: str | None = None
    # Key for that server.
    qdrant_api_key: SecretStr | None = None
    # When the vectors are opened if nobody needs them before, in seconds after
    # the start: not while the process is still getting ready.
    open_vectors_after_seconds: float = Field(default=3.0, ge=0)

    @model_validator(mode="after")
    def _check_overlap(self) -> "MemorySettings":
        if self.overlap_tokens > self.passage_tokens // 2:
            raise ValueError("overlap_tokens must be at most half of passage_tokens")
        return self


class Settings(ProcessSettings):
    """The settings of a memory service that is a process of its own."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
