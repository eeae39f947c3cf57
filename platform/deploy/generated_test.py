"""The manifests that are made from others are what those make."""

from deploy.generated import manifests
from deploy.overlays import shipped
from tier.binaries import repository_root
from tier.policy_contracts import shipped as shipped_policy


def test_the_committed_files_are_what_is_written() -> None:
    """Where this fails: ./bazelw run //platform/deploy:write"""
    envoy = [shipped(f"mesh/envoy/{each}.yaml") for each in ("gateway", "proxy")]
    for path, text in manifests(shipped_policy(), *envoy).items():
        assert (repository_root() / path).read_text("utf-8") == text, path
