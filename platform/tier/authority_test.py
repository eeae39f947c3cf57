"""The authority of a mesh on one machine: what it issues, and how it renews that."""

import asyncio
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshtest.clock import FakeClock
from tier.authority import Authority
from tier.certificate_files import CertificateFiles
from tier.events import Phase
from tier.failures import AuthorityUnreadable

_HOUR = 3600.0
pytest_plugins = ["meshtest.fixtures"]


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _names(files: CertificateFiles) -> list[str]:
    extension = _certificate(files.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return [str(each.value) for each in extension.value]


def test_a_service_is_known_by_its_id_and_no_address(tmp_path: Path, clock: FakeClock) -> None:
    """Its certificate names it for callers and callees, for a day, and nothing else."""
    files = Authority.open(tmp_path, clock=clock).issue("governor")
    assert _names(files) == ["spiffe://agentmesh.local/governor", "governor.agentmesh.local"]
    found = _certificate(files.certificate)
    found.verify_directly_issued_by(_certificate(files.authority))
    assert found.not_valid_before_utc == datetime(2025, 12, 31, 23, 55, tzinfo=UTC)
    assert found.not_valid_after_utc == datetime(2026, 1, 2, tzinfo=UTC)
    uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    limits = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not limits.ca


@pytest.mark.parametrize("name", ["gateway", "proxy"])
def test_proxies_alone_are_found_by_the_loopback_address(
    tmp_path: Path, clock: FakeClock, name: str
) -> None:
    """Who calls 127.0.0.1 reaches a proxy, or nobody that it believes."""
    files = Authority.open(tmp_path, clock=clock).issue(name)
    assert _names(files) == [f"spiffe://agentmesh.local/{name}", "localhost", "127.0.0.1"]


def test_other_hosts_may_be_named(tmp_path: Path, clock: FakeClock) -> None:
    """A gateway that listens elsewhere is found there; a change of it is a new certificate."""
    authority = Authority.open(tmp_path, clock=clock)
    before = authority.issue("gateway").certificate.read_bytes()
    files = authority.issue("gateway", hosts=("mesh.example", "192.0.2.7", "localhost"))
    assert files.certificate.read_bytes() != before
    assert _names(files)[1:] == ["localhost", "127.0.0.1", "mesh.example", "192.0.2.7"]


@pytest.mark.parametrize("name", ["", "authority", "../gateway", "Gateway"])
def test_what_is_no_name_is_refused(tmp_path: Path, clock: FakeClock, name: str) -> None:
    """A name is a folder, too: none leads elsewhere, or to the authority's own key."""
    authority = Authority.open(tmp_path, clock=clock)
    with pytest.raises(ValueError, match="is no name for a certificate") as caught:
        authority.issue(name)
    assert str(caught.value) == f"{name!r} is no name for a certificate."


def test_keys_are_for_their_owner_alone(tmp_path: Path, clock: FakeClock) -> None:
    """Nobody else may read a key, or look into the folders that hold them."""
    files = Authority.open(tmp_path, clock=clock).issue("tool")
    for key in (files.key, tmp_path / "authority" / "key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.resolve().parent.stat().st_mode) == 0o700


def test_a_second_start_issues_nothing_anew(tmp_path: Path, clock: FakeClock) -> None:
    """The authority stays, so that its clients need not trust another; so do young certificates."""
    files = Authority.open(tmp_path, clock=clock).issue("memory")
    before = [each.read_bytes() for each in (files.certificate, files.key, files.authority)]
    files = Authority.open(tmp_path, clock=clock).issue("memory")
    assert [each.read_bytes() for each in (files.certificate, files.key, files.authority)] == before


async def test_certificates_are_renewed_at_half_of_their_life(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Not before; then all files at once, the ones before staying for who is reading them."""
    authority = Authority.open(tmp_path, clock=clock)
    files = authority.issue("reasoning")
    first, folder = files.certificate.read_bytes(), files.certificate.resolve().parent
    keeping = asyncio.create_task(authority.keep(_nothing_to_report))
    await clock.advance(12 * _HOUR - 1)
    assert files.certificate.read_bytes() == first
    await clock.advance(1)
    renewed = _certificate(files.certificate)
    assert renewed.not_valid_after_utc == clock.now() + timedelta(hours=24)
    assert (folder / "certificate.pem").read_bytes() == first
    await clock.advance(12 * _HOUR)
    assert not folder.exists()
    await _end(keeping)


async def test_what_cannot_be_renewed_is_told_and_tried_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A folder that is in the way costs a line each time, and no certificate when it is gone."""
    authority = Authority.open(tmp_path, clock=clock)
    files = authority.issue("executor")
    first = files.certificate.read_bytes()
    in_the_way = files.folder / "next"
    in_the_way.mkdir()
    told: list[tuple[str, Phase, str]] = []

    def report(*event: *tuple[str, Phase, str]) -> None:
        told.append(event)

    keeping = asyncio.create_task(authority.keep(report))
    await clock.advance(12 * _HOUR)
    text = "Failed to renew the certificate of executor (Is a directory); tried again soon"
    assert told == [("certificates", Phase.FAILED, text)]
    assert files.certificate.read_bytes() == first
    in_the_way.rmdir()
    await clock.advance(30)
    assert files.certificate.read_bytes() != first
    assert len(told) == 1
    await _end(keeping)


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem", "authority.pem"])
def test_a_certificate_that_is_not_whole_is_issued_anew(
    tmp_path: Path, clock: FakeClock, name: str
) -> None:
    """After a power cut a file may be empty: the next start replaces all three."""
    files = Authority.open(tmp_path, clock=clock).issue("tool")
    (files.folder / "current" / name).write_bytes(b"")
    files = Authority.open(tmp_path, clock=clock).issue("tool")
    assert all(each.read_bytes() for each in (files.certificate, files.key, files.authority))


def test_an_authority_that_is_not_whole_is_not_replaced_silently(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Its clients would trust the one before: a person decides."""
    Authority.open(tmp_path, clock=clock)
    (tmp_path / "authority" / "key.pem").write_bytes(b"")
    with pytest.raises(AuthorityUnreadable) as caught:
        Authority.open(tmp_path, clock=clock)
    assert str(caught.value) == (
        f"The certificate authority in {tmp_path / 'authority'} is not whole: restore it from a"
        " backup, or remove the folder, and all who trusted it have to trust the new one."
    )


async def test_an_authority_near_its_end_is_replaced_at_a_start(
    tmp_path: Path, clock: FakeClock
) -> None:
    """With what it issued; after ten years, less a month."""
    first = Authority.open(tmp_path, clock=clock).issue("proxy").authority.read_bytes()
    await clock.advance(3619 * 24 * _HOUR)
    assert Authority.open(tmp_path, clock=clock).issue("proxy").authority.read_bytes() == first
    await clock.advance(2 * 24 * _HOUR)
    files = Authority.open(tmp_path, clock=clock).issue("proxy")
    assert files.authority.read_bytes() != first
    _certificate(files.certificate).verify_directly_issued_by(_certificate(files.authority))


def test_certificates_may_be_moved(tmp_path: Path, clock: FakeClock) -> None:
    """A data directory that lies elsewhere now, as a restored one, is followed there."""
    before = Authority.open(tmp_path / "old", clock=clock).issue("proxy").certificate.read_bytes()
    (tmp_path / "old").rename(tmp_path / "new")
    files = Authority.open(tmp_path / "new", clock=clock).issue("proxy")
    assert files.certificate.read_bytes() == before
    assert str(tmp_path / "old") not in files.certificate_secret.read_text()


def test_envoy_is_told_which_files_to_follow(tmp_path: Path, clock: FakeClock) -> None:
    """Each secret is a file of its own for SDS, and names the folder in which links are swapped."""
    files = Authority.open(tmp_path, clock=clock).issue("gateway")
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    watched = {"path": str(files.folder)}
    assert yaml.safe_load(files.certificate_secret.read_text()) == {
        "resources": [
            {
                "@type": kind,
                "name": "certificate",
                "tls_certificate": {
                    "certificate_chain": {"filename": str(files.certificate)},
                    "private_key": {"filename": str(files.key)},
                    "watched_directory": watched,
                },
            }
        ]
    }
    assert yaml.safe_load(files.authority_secret.read_text()) == {
        "resources": [
            {
                "@type": kind,
                "name": "authority",
                "validation_context": {
                    "trusted_ca": {"filename": str(files.authority)},
                    "watched_directory": watched,
                },
            }
        ]
    }


def _nothing_to_report(part: str, phase: Phase, text: str) -> None:
    raise AssertionError(text)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
