"""The LiteLLM proxy is told what it needs, and nothing of what this machine's user has."""

from pathlib import Path

import yaml

from bench.gateway.litellm.system import LiteLlm, environment, settings
from bench.peers.packages import Packages

_LOCK = Path(__file__).parent / "requirements.lock.txt"


def test_its_environment_holds_no_key_and_no_address(tmp_path: Path) -> None:
    """Whatever is set here; it may not send anything either."""
    made = environment(
        {
            "PATH": "/bin",
            "OPENAI_API_KEY": "secret",
            "ANTHROPIC_API_KEY": "secret",
            "HTTPS_PROXY": "somewhere",
            "DATABASE_URL": "somewhere",
            "PYTHONPATH": "/ours",
        },
        tmp_path,
    )
    assert "secret" not in made.values()
    assert set(made) == {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LITELLM_TELEMETRY",
        "LITELLM_LOCAL_MODEL_COST_MAP",
        "DO_NOT_TRACK",
        "LITELLM_MODE",
        "LITELLM_LOG",
    }
    assert (made["LITELLM_TELEMETRY"], made["HOME"]) == ("False", str(tmp_path))


def test_its_only_model_is_the_upstream() -> None:
    """On this machine, by the port that it is told."""
    made = yaml.safe_load(yaml.safe_dump(settings(1234, "sk-1")))
    (model,) = made["model_list"]
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:1234/v1"
    assert made["litellm_settings"] == {"telemetry": False, "set_verbose": False, "callbacks": []}


def test_its_lock_names_hashes_and_no_address() -> None:
    """Each package has at least one hash; where it comes from is the machine's own affair."""
    text = _LOCK.read_text("utf-8")
    assert "://" not in text
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith(" "):
            assert "==" in line
            assert following.startswith("    --hash=sha256:"), line


def test_it_is_known_by_the_name_of_its_option(tmp_path: Path) -> None:
    """As `--skip` takes it."""
    assert LiteLlm(Packages(tmp_path, {}, lambda text: None), {}).name == "litellm"
