"""The keys that a mesh is started with: a file of their hashes, which coordinators read."""

from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from meshkit.config import ConfigError
from meshkit.identity import Role


class BootstrapKey(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]{8,40}$")
    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    display_name: str = Field(max_length=100)
    role: Role
    # SHA-256 of the secret part of the key's text, in hexadecimal.
    secret_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    # The last characters of the key's text.
    ending: str = Field(max_length=4)
    create_time: AwareDatetime


class BootstrapKeys(BaseModel):
    """What the file holds, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[BootstrapKey, ...] = Field(max_length=100)

    @classmethod
    def read(cls, path: Path) -> "BootstrapKeys":
        """The keys in a file; ConfigError where they cannot be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(each) for each in first["loc"])
            raise ConfigError(f"{path}: {where or 'content'}: {first['msg']}") from None

    def made_at(self, key_id: str) -> datetime | None:
        """When the key of that id was made; None where it is not here."""
        return next((each.create_time for each in self.keys if each.id == key_id), None)
