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
        sync_always=False,
        task_partitions=4,
    )
    assert MeshOptions.from_json(options.to_json()) == options
