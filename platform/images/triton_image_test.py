"""Triton's image: what is added to NVIDIA's, which cannot be had where this runs.

The embedder runs from the layer alone, as the image's user on a root that nobody can write to; and
the Triton that staging uses serves the layer's repository beside another one, as pods do.
"""

import asyncio
import json
import os
import signal
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tritonclient.grpc.aio import InferenceServerClient, InferInput

from images import dockerfile, jail, provenance, rules
from images.assembled import content, distributions
from images.layer import USER
from images.manifest import APP, EMBEDDER
from meshtest.child_server import binary, free_port
from models.minilm.reference import MIN_COSINE, cosines, reference
from models.triton_repository import TEXT_EMBEDDER, TEXT_GENERATION, assemble
from models.triton_server import wait_until_ready
from tier.version import VERSION

_DOCKERFILE: Final = Path("mesh/images/triton.Dockerfile")
_DEPLOYMENT: Final = Path("mesh/kubernetes/components/gpu/triton.yaml")
_LOCK: Final = Path(provenance.LOCK)
# In MiB, without NVIDIA's image. What makes it larger is to be noticed.
_BUDGET: Final = 230
_MIB: Final = 1 << 20
# On a machine with much else to do.
_SECONDS: Final = 60.0
_NO_NAMESPACES: Final = (
    "This machine allows no user namespaces: the embedder runs out of the unpacked folder, as who"
    " runs the tests."
)
_EMBED: Final = """
import json, pathlib, sys
sys.path.append(sys.argv[1])
from models.minilm.embedder import MiniLmEmbedder
embedder = MiniLmEmbedder(pathlib.Path(sys.argv[1], "minilm"))
print(json.dumps(embedder.embed(json.loads(sys.argv[2])).tolist()))
"""


def _outputs() -> dict[str, Path]:
    return {Path(each).name: Path(each) for each in os.environ["TRITON_IMAGE"].split()}


def _layer() -> Path:
    return _outputs()["triton.tar"]


def _image() -> dockerfile.Target:
    _, stages = dockerfile.parse(_DOCKERFILE.read_text("utf-8"))
    return dockerfile.target(stages, "triton")


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer, unpacked."""
    folder = tmp_path_factory.mktemp("root")
    with tarfile.open(_layer()) as tar:
        tar.extractall(folder)
    return folder


def _run(root: Path, folder: Path, arguments: list[str]) -> str:
    """What Python prints in the image; AssertionError where it does not end with 0."""
    mode = "namespace" if jail.possible(folder / "tried") else "folder"
    if mode == "folder":
        warnings.warn(_NO_NAMESPACES, stacklevel=2)
        arguments = [each.replace("/app/", f"{root}/app/") for each in arguments]
    (scratch := folder / "scratch").mkdir()
    # Engines make them where they mount something.
    for each in ("tmp", "var/lib/agentmesh"):
        (root / each).mkdir(parents=True, exist_ok=True)
    program = [os.path.realpath(sys.executable), *arguments]
    with (folder / "log").open("w") as log:
        process = jail.start(mode, root, scratch, program, environment={}, log=log)
        ended = process.wait(_SECONDS)
    printed = (folder / "log").read_text("utf-8")
    assert ended == 0, printed
    return printed


def test_the_dockerfile_keeps_the_rules() -> None:
    """A base by its digest, our layer alone, and a user who is nobody else."""
    assert list(dockerfile.findings(_DOCKERFILE.read_text("utf-8"), [])) == []
    image = _image()
    assert image.layers == (_layer().name,)
    assert image.user == f"{USER}:{USER}"
    assert image.entry == ("tritonserver", f"--model-repository=/{EMBEDDER.parent.parent}")


def test_the_layer_keeps_the_rules() -> None:
    """Whose files are, who may do what with them, and what is not among them."""
    found = [each for member in rules.members(_layer()) for each in rules.findings(member)]
    assert found == []


def test_the_repository_has_the_embedder_alone(root: Path) -> None:
    """Text generation is on a volume, and Triton takes no two models of one name."""
    repository = root / EMBEDDER.parent.parent
    assert [each.name for each in repository.iterdir()] == [TEXT_EMBEDDER]
    assert {each.name for each in (root / APP).iterdir()} == {"bill.cdx.json", "repository"}
    configuration = (repository / TEXT_EMBEDDER / "config.pbtxt").read_text("utf-8")
    assert "instance_group [ { count: 1, kind: KIND_CPU } ]" in configuration
    weights = {each.name for each in (root / EMBEDDER / "minilm").iterdir()}
    assert weights == {"model.onnx", "model.onnx.data", "tokenizer.json"}


def test_the_layer_keeps_its_budget(root: Path) -> None:
    """Neither much larger than stated, nor so much smaller that the statement means nothing."""
    size = sum(each.stat().st_size for each in root.rglob("*") if each.is_file()) / _MIB
    assert 0.7 * _BUDGET < size <= _BUDGET


def test_the_bill_is_of_the_layer() -> None:
    """Valid, with exactly the packages that are there, each by a hash of the lock."""
    text = _outputs()["triton.cdx.json"].read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "agentmesh/triton"
    assert bill["metadata"]["component"]["version"] == VERSION
    there = distributions(_layer())
    assert {each["name"]: each["version"] for each in bill["components"]} == there
    assert {"numpy", "onnxruntime", "tokenizers"} <= there.keys()
    lock = _LOCK.read_text("utf-8")
    for each in bill["components"]:
        (found,) = each["hashes"]
        assert f"--hash=sha256:{found['content']}" in lock
        assert each["licenses"]
    assert content(_layer(), str(APP / "bill.cdx.json")) == text.encode()


def test_the_statement_is_about_what_was_made() -> None:
    """Layer and bill by their digests; from this lock, and the packages of the bill."""
    outputs = _outputs()
    statement = json.loads(outputs["triton.provenance.json"].read_text("utf-8"))
    about = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    made = [outputs["triton.tar"], outputs["triton.cdx.json"]]
    assert about == {each.name: provenance.digest(each) for each in made}
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    by_name = {each["name"]: each["digest"] for each in materials}
    assert by_name[provenance.LOCK] == {"sha256": provenance.digest(_LOCK)}
    bill = json.loads(outputs["triton.cdx.json"].read_text("utf-8"))
    packages = {each["uri"] for each in materials if "uri" in each}
    assert packages == {each["purl"] for each in bill["components"]}


def test_the_embedder_needs_nothing_but_the_layer(root: Path, tmp_path: Path) -> None:
    """As the image's user it gives the vectors of the reference, with no packages of ours."""
    expected = reference()
    printed = _run(
        root, tmp_path, ["-I", "-S", "-c", _EMBED, f"/{EMBEDDER}", json.dumps(expected.texts)]
    )
    vectors = np.array(json.loads(printed.splitlines()[-1]), np.float32)
    assert cosines(vectors, expected.vectors).min() > MIN_COSINE


def test_a_build_of_the_image_asks_the_embedder(root: Path, tmp_path: Path) -> None:
    """What the Dockerfile runs ends well with what is in the layer."""
    _, stages = dockerfile.parse(_DOCKERFILE.read_text("utf-8"))
    (given,) = stages["triton"].given("RUN")
    python, *arguments = json.loads(given)
    assert python == "python3"
    # Without the packages of this machine, which might stand in for some of the layer.
    _run(root, tmp_path, ["-I", "-S", *arguments])


async def test_triton_serves_it_beside_another_repository(root: Path, tmp_path: Path) -> None:
    """With the arguments of the image and of the pods: the embedder, and what is on the volume."""
    deployment, *_ = yaml.safe_load_all(_DEPLOYMENT.read_text("utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    volume, made = tmp_path / "models", tmp_path / "made"
    volume.mkdir()
    assemble(made, gpu=False)
    (made / TEXT_GENERATION).rename(volume / TEXT_GENERATION)
    port = free_port()
    given = [*_image().entry[1:], *container["args"]]
    places = {"=/app/": f"={root}/app/", "=/models": f"={volume}"}
    for place, here in places.items():
        given = [each.replace(place, here) for each in given]
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(binary("TRITON_SERVER")), *given, f"--grpc-port={port}"),
            *("--allow-http=false", "--allow-metrics=false"),
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )
    try:
        target = f"127.0.0.1:{port}"
        await asyncio.wait_for(wait_until_ready(target), _SECONDS)
        client = cast(Any, InferenceServerClient(target))
        for model in (TEXT_EMBEDDER, TEXT_GENERATION):
            assert await client.is_model_ready(model)
        expected = reference()
        asked = cast(Any, InferInput("TEXT", [1, 1], "BYTES"))
        asked.set_data_from_numpy(np.array([[expected.texts[0].encode()]], np.object_))
        answer = await client.infer(TEXT_EMBEDDER, [asked], client_timeout=_SECONDS)
        vectors = answer.as_numpy("EMBEDDING")
        assert cosines(vectors, expected.vectors[:1]).min() > MIN_COSINE
        await client.close()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
