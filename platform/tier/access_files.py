"""Where the credentials lie that a mesh made itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Of the local key. As an administrator's it may act on the keys of all tenants.
TENANT: Final = "default"
_FOLDER: Final = "access"


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """Where the credentials of a mesh lie; they may not be there yet."""

    folder: Path

    @classmethod
    def of(cls, data_dir: Path) -> "AccessFiles":
        """Those of the mesh that keeps its state there."""
        return cls(data_dir / _FOLDER)

    @property
    def local_key(self) -> Path:
        """An admin's API key as text."""
        return self.folder / "local.key"

    @property
    def bootstrap_keys(self) -> Path:
        """Hashes of the keys that coordinators know from their start."""
        return self.folder / "bootstrap_keys.json"

    @property
    def signing_key(self) -> Path:
        """The private key that signs tokens, as PEM."""
        return self.folder / "signing.pem"

    @property
    def jwks(self) -> Path:
        """The public keys that tokens are checked by, as a JSON Web Key Set."""
        return self.folder / "jwks.json"
