"""What is in an enclave image, as a CycloneDX 1.6 document (enclave chapter, 8.5)."""

import re
import tomllib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from uid2.packaging.sigstruct import EnclaveFileError
from uid2.packaging.source import SourceFacts

_NAMESPACE: Final = uuid.UUID("5b3c3f0e-6a5e-5d0a-8f5d-0a4f2b9a7c11")
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Part:
    """`kind` is `pypi`, `cargo` or `generic`; `sha256` in hex, empty where none is known; `note` is its purpose."""

    kind: str
    name: str
    version: str
    sha256: str = ""
    note: str = ""

    @property
    def reference(self) -> str:
        return f"{self.kind}:{self.name}@{self.version}"


def crates_of(lock: Path) -> list[Part]:
    """The crates of a Cargo.lock that come from elsewhere, with their checksums."""
    packages = tomllib.loads(lock.read_text())["package"]
    return [
        Part("cargo", package["name"], package["version"], package.get("checksum", ""), "compiled into native code")
        for package in packages
        if "source" in package
    ]


def bill_of_software(source: SourceFacts, image_digest: str, parts: Iterable[Part]) -> bytes:
    """The JSON document; the same bytes for the same arguments. Serial number and time come from the build."""
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, f"{source.commit} {image_digest}"),
        components=[_component(part) for part in _unique(parts)],
    )
    bom.metadata.timestamp = datetime.fromtimestamp(source.epoch, UTC)
    bom.metadata.component = Component(
        name="uid2-operator-azure-sgx",
        type=ComponentType.CONTAINER,
        version=source.tag,
        bom_ref="uid2-operator-azure-sgx",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image_digest)],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1).encode() + b"\n"


def _unique(parts: Iterable[Part]) -> Sequence[Part]:
    return sorted({part.reference: part for part in parts}.values(), key=lambda part: part.reference)


def _component(part: Part) -> Component:
    if part.sha256 and not _HEX.fullmatch(part.sha256):
        raise EnclaveFileError(f"{part.reference} has a hash that is no SHA-256")
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)] if part.sha256 else []
    purpose = [Property(name="uid2:purpose", value=part.note)] if part.note else []
    return Component(
        name=part.name,
        type=ComponentType.LIBRARY if part.kind != "generic" else ComponentType.PLATFORM,
        version=part.version,
        bom_ref=part.reference,
        purl=PackageURL(part.kind, None, part.name, part.version),
        hashes=hashes,
        properties=purpose,
    )
