"""Options of a mesh: what the tier decides, and what survives being handed on."""

from pathlib import Path

import pytest

from tier.options import MeshOptions, Tier


@pytest.mark.parametrize(
    ("tier", "sync_always", "flushes"),
    [
        (Tier.PROTOTYPE, None, False),
        (Tier.STAGING, None, True),
        (Tier.PROTOTYPE, True, True),
        (Tier.STAGING, False, False),
    ],
)
def test_the_tier_says_whether_writes_are_flushed_unless_somebody_else_does(
    tier: Tier, sync_always: bool | None, flushes: bool
) -> None:
    """Staging survives a power cut; either can be told otherwise."""
    assert MeshOptions(tier=tier, sync_always=sync_always).flushes is flushes


def test_options_survive_being_handed_to_another_process(tmp_path: Path) -> None:
    """Each of them."""
    options = MeshOptions(
        tier=Tier.STAGING,
        data_dir=tmp_path / "data",
        port=9080,
        config=tmp_path / "mesh.yaml",
        executors=3,
        replicas=2,
        postgres=tmp_path / "postgres-server",
        listen="192.0.2.7",
        no_auth=True,
        no_mtls=True,
        sync_always=False,
        task_partitions=4,
    )
    assert MeshOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("options", "auth", "mtls"),
    [
        (MeshOptions(), False, False),
        (MeshOptions(tier=Tier.STAGING), True, True),
        (MeshOptions(tier=Tier.STAGING, no_auth=True), False, True),
        (MeshOptions(tier=Tier.STAGING, no_mtls=True), True, False),
    ],
)
def test_staging_is_protected_unless_told_otherwise(
    options: MeshOptions, auth: bool, mtls: bool
) -> None:
    """The prototype never is."""
    assert (options.auth, options.mtls) == (auth, mtls)


def test_ports_lie_beside_the_gateways() -> None:
    """One number moves them all."""
    options = MeshOptions()
    assert (options.port, options.tls_port) == (8080, 8443)
    assert MeshOptions(port=0).tls_port == 0
