"""Bills of materials: which packages from outside are in an image, as CycloneDX.

    bill WHEELS SHARED_MANIFEST {NAME OWN_MANIFEST BILL}...

A bill each for images that share a layer. The interpreter, and what else the base image holds, is
not in them: that image has a bill of its own.
"""

import email.message
import email.parser
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from cyclonedx import model
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import bom, component
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from images import manifest, wheels
from images.wheels import Wheel, normalize
from tier.version import VERSION

# What it makes of its classes is beyond type checkers.
_model: Final = cast(Any, model)
_bom: Final = cast(Any, bom)
_component: Final = cast(Any, component)
_Part = Any
# Bills with the same content have the same number.
_NUMBERS: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "bills.agentmesh.dev")
_CLASSIFIER: Final = "License :: "
# Longer ones are whole licences, which lie in the image beside the package.
_LONGEST_NAME: Final = 64
_INDENT: Final = 2


def write(
    name: str, version: str, installed: Mapping[str, Wheel], metadata_files: Iterable[Path]
) -> str:
    """The bill of one image, as JSON.

    Args:
        name: Of the image, such as `agentmesh/governor`.
        version: Of the image.
        installed: What the lock allowed, by normalised name.
        metadata_files: `METADATA` of every distribution in the image.

    Raises:
        KeyError: A distribution is in the image that the lock does not know.
    """
    parts = [_part(each, installed) for each in metadata_files]
    image = _component.Component(
        name=name,
        version=version,
        type=_component.ComponentType.CONTAINER,
        bom_ref=f"{name}@{version}",
    )
    content = "\n".join(sorted(f"{each.purl} {each.hashes[0].content}" for each in parts))
    made = _bom.Bom(
        components=parts,
        serial_number=uuid.uuid5(_NUMBERS, f"{name}@{version}\n{content}"),
    )
    made.metadata.component = image
    # A moment would make two bills of the same image differ.
    made.metadata.timestamp = None
    made.register_dependency(image, parts)
    return JsonV1Dot6(made).output_as_string(indent=_INDENT) + "\n"


def _part(metadata_file: Path, installed: Mapping[str, Wheel]) -> _Part:
    metadata = email.parser.HeaderParser().parsestr(metadata_file.read_text("utf-8", "replace"))
    wheel = installed[normalize(metadata["Name"])]
    if metadata["Version"] != wheel.version:
        raise KeyError(f"{wheel.name} is {metadata['Version']} here and {wheel.version} there")
    digest = _model.HashType(alg=_model.HashAlgorithm.SHA_256, content=wheel.sha256)
    return _component.Component(
        name=wheel.name,
        version=wheel.version,
        type=_component.ComponentType.LIBRARY,
        bom_ref=wheel.purl,
        purl=PackageURL("pypi", name=wheel.name, version=wheel.version),
        hashes=[digest],
        licenses=_licences(metadata),
        properties=[_model.Property(name="agentmesh:wheel", value=wheel.file)],
    )


def _licences(metadata: email.message.Message) -> list[Any]:
    """As the wheel says: as an SPDX expression, or in words, or by its classifiers."""
    factory: Any = LicenseFactory()
    if expression := metadata["License-Expression"]:
        return [factory.make_from_string(expression)]
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier", [])
        if each.startswith(_CLASSIFIER) and each != "License :: OSI Approved"
    ]
    words = (metadata["License"] or "").strip()
    if words and len(words) <= _LONGEST_NAME and "\n" not in words and words != "UNKNOWN":
        return [factory.make_from_string(words)]
    return [factory.make_with_name(each) for each in sorted(set(classifiers))]


def main(installed_file: str, shared: str, *images: str) -> None:
    """Writes the bill of each image: its name, the manifest of its own packages, and the bill."""
    installed = wheels.read(Path(installed_file))
    for name, own, target in zip(images[::3], images[1::3], images[2::3], strict=True):
        entries = [*manifest.read(Path(shared)), *manifest.read(Path(own))]
        files = sorted(manifest.metadata_files(entries))
        bill = write(f"agentmesh/{name}", VERSION, installed, files)
        Path(target).write_text(bill, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
