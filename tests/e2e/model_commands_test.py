"""Models of a real mesh, listed and tested at the command line and by JSON."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from click.testing import Result

from cli.command_mesh import Commands
from meshtest.eventually import eventually
from tests.e2e.running_mesh import running
from tier.api import Tier


def _config(folder: Path) -> Path:
    """A mesh with the model `stub`, which costs something."""
    config = folder / "mesh.yaml"
    section = {"stub_latency_ms": 20, "tiers": {"fast": ["stub", "offline"]}}
    config.write_text(yaml.safe_dump({"reasoning": section}), "utf-8")
    return config


def _post(address: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://{address}{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.load(answer)


def _document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_every_model_of_a_fresh_mesh_answers_and_is_charged_for(tmp_path: Path) -> None:
    """The price is that of the book, and spending shows it as a check."""
    config = _config(tmp_path)
    async with running(tmp_path / "data", Tier.PROTOTYPE, config=config) as client:
        commands = Commands(client.mesh.address)
        listed = _document(await commands.run("model", "list", "--json"))["models"]
        names = [each["name"] for each in listed]
        assert names[:3] == ["stub", "offline", "minilm-l6-v2"]
        assert listed[0]["state"] == "MODEL_STATE_READY"
        assert listed[0]["cached_input_price_micros_per_million"] == 5_000

        tested = _document(await commands.run("model", "test", *names[:3], "--json"))
        assert [(each["model"], each["ok"]) for each in tested["models"]] == [
            ("stub", True),
            ("offline", True),
            ("minilm-l6-v2", True),
        ]
        stub, offline, _ = tested["models"]
        assert stub["latency_ms"] >= 20
        assert 0 < offline["first_token_ms"] <= offline["latency_ms"]
        assert stub["usage"]["cost_micros"] > 0 == offline["usage"]["cost_micros"]

        by_json = await asyncio.to_thread(
            _post, client.mesh.address, "/v1/models:check", {"model": "stub"}
        )
        assert by_json["model"]["name"] == "stub"
        assert by_json["latency"].endswith("s")
        assert "error" not in by_json

        async def spent() -> bool:
            found = _document(await commands.run("spend", "--by", "task-type", "--json"))
            cost = {each["group"][0]: each["usage"]["cost_micros"] for each in found["rows"]}
            return cost.get("model-check") == 2 * stub["usage"]["cost_micros"]

        await eventually(spent, 60)
