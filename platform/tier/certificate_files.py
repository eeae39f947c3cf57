"""Where a certificate lies for those who use it, and how it is replaced under their hands."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

# The folder of a mesh in which all lie.
CERTIFICATES: Final = "certificates"
_CURRENT: Final = "current"
_CERTIFICATE: Final = "certificate.pem"
_KEY: Final = "key.pem"
_AUTHORITY: Final = "authority.pem"
_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate, its key, and the authority by which others are verified, in one folder.

    The files lie behind a link, `current`, that is swapped when they are renewed: whoever
    reads them through the link gets the newer ones, and never one of each.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate, as PEM."""
        return self.folder / _CURRENT / _CERTIFICATE

    @property
    def key(self) -> Path:
        """Its private key, as PEM, for its owner alone."""
        return self.folder / _CURRENT / _KEY

    @property
    def authority(self) -> Path:
        """The certificate of the authority, as PEM."""
        return self.folder / _CURRENT / _AUTHORITY

    @property
    def certificate_secret(self) -> Path:
        """For Envoy's SDS, by `path_config_source`: certificate and key, named `certificate`."""
        return self.folder / "certificate.yaml"

    @property
    def authority_secret(self) -> Path:
        """For Envoy's SDS, by `path_config_source`: the authority, named `authority`."""
        return self.folder / "authority.yaml"

    def write(self, *, certificate: bytes, key: bytes, authority: bytes, version: str) -> None:
        """Puts another certificate in the place of the one that is there.

        The one before stays, for who is reading it; those before that one are removed.

        Args:
            certificate: As PEM.
            key: As PEM.
            authority: As PEM.
            version: A name for these files that no earlier ones had.

        Raises:
            OSError: They cannot be written; the ones before stay in their place.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = self._version()
        made = self.folder / version
        made.mkdir(mode=0o700)
        for name, content in ((_CERTIFICATE, certificate), (_KEY, key), (_AUTHORITY, authority)):
            write_private(made / name, content)
        link = self.folder / "next"
        link.unlink(missing_ok=True)
        link.symlink_to(version)
        link.replace(self.folder / _CURRENT)
        for each in self.folder.iterdir():
            if each.is_dir() and not each.is_symlink() and each.name not in (version, before):
                shutil.rmtree(each)

    def write_secrets(self) -> None:
        """Writes what Envoy follows. Raises OSError."""
        # Envoy reads the files again when something is moved into the folder, as the link is.
        watched = {"watched_directory": {"path": str(self.folder)}}
        certificate = {
            "certificate_chain": {"filename": str(self.certificate)},
            "private_key": {"filename": str(self.key)},
            **watched,
        }
        authority = {"trusted_ca": {"filename": str(self.authority)}, **watched}
        _write_secret(self.certificate_secret, "certificate", {"tls_certificate": certificate})
        _write_secret(self.authority_secret, "authority", {"validation_context": authority})

    def _version(self) -> str | None:
        try:
            return os.readlink(self.folder / _CURRENT)
        except OSError:
            return None


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that its owner alone may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def _write_secret(path: Path, name: str, secret: dict[str, Any]) -> None:
    resources = {"resources": [{"@type": _SECRET, "name": name, **secret}]}
    content = yaml.safe_dump(resources, sort_keys=False).encode()
    # What did not change is not written: Envoy would read it again.
    if not path.exists() or path.read_bytes() != content:
        write_private(path, content)
