"""Envoy's configuration for several Tritons."""

from typing import Any

import yaml

from models.models_gateway import SHIPPED, TritonPlace, relocate


def _moved(*places: TritonPlace) -> Any:
    shipped = yaml.safe_load(SHIPPED.read_text("utf-8"))
    return relocate(shipped, places, port=10, reports_port=12)


def _endpoints(config: Any, cluster: str) -> list[tuple[int, list[str]]]:
    (found,) = (each for each in config["static_resources"]["clusters"] if each["name"] == cluster)
    return [
        (
            group["priority"],
            [
                "{address}:{port_value}".format(**each["endpoint"]["address"]["socket_address"])
                for each in group["lb_endpoints"]
            ],
        )
        for group in found["load_assignment"]["endpoints"]
    ]


def test_servers_with_a_gpu_come_first_for_work_that_needs_one() -> None:
    """All others share all servers."""
    config = _moved(TritonPlace("127.0.0.2", 8001), TritonPlace("127.0.0.3", 8001, gpu=True))
    assert _endpoints(config, "models") == [(0, ["127.0.0.2:8001", "127.0.0.3:8001"])]
    assert _endpoints(config, "models_gpu_first") == [
        (0, ["127.0.0.3:8001"]),
        (1, ["127.0.0.2:8001"]),
    ]


def test_without_a_gpu_all_servers_are_first() -> None:
    """There is no empty priority before them."""
    config = _moved(TritonPlace("127.0.0.2", 8001))
    assert _endpoints(config, "models_gpu_first") == [(0, ["127.0.0.2:8001"])]


def test_it_is_asked_at_a_socket_of_its_owner() -> None:
    """In the folder in which it runs, of which each mesh has its own."""
    config = _moved(TritonPlace("127.0.0.2", 8001))
    assert config["admin"]["address"] == {"pipe": {"path": "models-admin.sock", "mode": 0o600}}


def test_all_ports_are_moved() -> None:
    """The listener's, and that of the reporters in each cluster."""
    config = _moved(TritonPlace("127.0.0.2", 8001))
    (listener,) = config["static_resources"]["listeners"]
    assert listener["address"]["socket_address"]["port_value"] == 10
    for cluster in config["static_resources"]["clusters"]:
        first = cluster["load_balancing_policy"]["policies"][0]["typed_extension_config"]
        assert first["typed_config"]["oob_reporting_config"] == {"port_value": 12}
