"""What a build leaves: package, images, identity record, file list, SBOM, provenance (enclave chapter, 8)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from uid2.packaging.base_layer import copy_base, write_merged
from uid2.packaging.docker_archive import copy_plain, write_docker_archive
from uid2.packaging.identity import EnclaveIdentity
from uid2.packaging.image import ImageSettings, OciImage, encode_document, write_gzipped_tar, write_layer, write_oci
from uid2.packaging.parts import CRATES
from uid2.packaging.provenance import identity_statement, provenance_statement, sign_statement
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sbom import Part, bill_of_software, crates_of
from uid2.packaging.source import SourceFacts

if TYPE_CHECKING:
    from uid2.packaging.build import BuildOrder

PACKAGE: Final = "uid2-operator"
NAME: Final = "uid2-operator-azure-sgx"
REPOSITORY: Final = "dev.docker.adsrvr.org/uid2/operator/occlum"
OCCLUM_VERSION: Final = "0.31.0"
PORTS: Final = (8080, 9080, 9091)


@dataclass(frozen=True, slots=True)
class Enclave:
    """`package` is the file of the Occlum package, `tree` its content where this program made it itself."""

    identity: EnclaveIdentity
    manifest: list[dict[str, Any]] = field(repr=False)
    package: Path
    tree: RootFileSystem | None = field(repr=False)


def write_package(tree: RootFileSystem, folder: Path, epoch: int) -> Path:
    file = folder / f"{PACKAGE}.tar.gz"
    write_gzipped_tar(tree, file, epoch)
    return file


def write_artifacts(
    out: Path,
    order: "BuildOrder",
    enclave: Enclave,
    source: SourceFacts,
    inputs: Mapping[str, Any],
    key: Ed25519PrivateKey,
    *,
    base: Path | None,
) -> dict[str, Any]:
    """Everything into the folder `out`; gives the identity record."""
    home = out / PACKAGE
    home.mkdir()
    placed = home / f"{PACKAGE}.tar.gz"
    enclave.package.rename(placed)
    (out / "files.json").write_bytes(_document(enclave.manifest))
    digests = {f"{PACKAGE}/{PACKAGE}.tar.gz": _digest(placed), "files.json": _digest(out / "files.json")}
    if not order.fast:
        digests |= _write_images(out, order, enclave, source, str(inputs["configuration"]), base)
    digests["sbom.cdx.json"] = _write_sbom(out, order, source, inputs, digests)
    record = enclave.identity.record() | {
        "version": source.tag,
        "source_commit": source.commit,
        "source_time": source.epoch,
        "base": "stub" if order.occlum is None else f"occlum {OCCLUM_VERSION}",
        "digests": dict(sorted(digests.items())),
        **inputs,
    }
    (out / "identity.json").write_bytes(_document(record))
    _write_provenance(out, order, source, inputs, digests, record, key)
    return record


def _write_images(
    out: Path, order: "BuildOrder", enclave: Enclave, source: SourceFacts, configuration: str, base: Path | None
) -> dict[str, str]:
    tree = _container(order, enclave)
    layers = [] if base is None else [copy_base(base, out / "base.layer")]
    layers.append(write_layer(tree, out / "layer", source.epoch))
    tags = (f"{REPOSITORY}:dev", f"{REPOSITORY}:{source.tag}")
    image = write_oci(out / "oci", layers, _settings(order, source, configuration), tags)
    plain, archive = out / f"{NAME}.tar.gz", out / f"{NAME}.docker.tar.gz"
    if base is None:
        copy_plain(image, plain)
    else:
        write_merged([layer.blob for layer in image.layers], plain)
    write_docker_archive(image, archive, tags, source.epoch)
    return {**_oci_digests(image), plain.name: _digest(plain), archive.name: _digest(archive)}


def _container(order: "BuildOrder", enclave: Enclave) -> RootFileSystem:
    """The layer above the base: the run script and the enclave's instance."""
    tree = RootFileSystem()
    tree.file("root/run.sh", order.root / "scripts/azure/files/run.sh", executable=True)
    if enclave.tree is not None:
        tree.put_tree("root", enclave.tree)
        return tree
    instance = enclave.package.parent
    for found in sorted(instance.rglob("*")):
        path = f"root/{PACKAGE}/{found.relative_to(instance).as_posix()}"
        # The package has no image/ folder: its content is in build/mount, protected.
        if path.startswith(f"root/{PACKAGE}/image"):
            continue
        if found.is_dir() and not found.is_symlink():
            tree.folder(path)
        else:
            tree.take(path, found)
    return tree


def _settings(order: "BuildOrder", source: SourceFacts, configuration: str) -> ImageSettings:
    return ImageSettings(
        entrypoint=("/bin/bash", "/root/run.sh"),
        command=("occlum", "run", "/bin/launcher"),
        working_folder="/root",
        ports=PORTS,
        created=source.epoch,
        environment=("PATH=/opt/occlum/build/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
        labels={
            "org.opencontainers.image.revision": source.commit,
            "org.opencontainers.image.version": source.tag,
            "org.uid2.base": "stub" if order.occlum is None else f"occlum-{OCCLUM_VERSION}",
            "org.uid2.configuration": configuration,
        },
    )


def _oci_digests(image: OciImage) -> dict[str, str]:
    return {f"oci/{name}": digest for name, digest in image.digests().items()}


def _write_sbom(
    out: Path, order: "BuildOrder", source: SourceFacts, inputs: Mapping[str, Any], digests: Mapping[str, str]
) -> str:
    parts = [Part("generic", "cpython", inputs["interpreter"]["version"], note=inputs["interpreter"]["origin"])]
    parts.append(
        Part("generic", "base-stub", "0", note="no Occlum on the build machine")
        if order.occlum is None
        else Part("generic", "occlum", OCCLUM_VERSION, _digest(order.base) if order.base else "", "base image")
    )
    parts += [Part("pypi", wheel["name"], wheel["version"], wheel["sha256"]) for wheel in inputs["wheels"]]
    for crate in CRATES:
        parts += crates_of(order.root / "rust" / crate / "Cargo.lock")
    file = out / "sbom.cdx.json"
    file.write_bytes(bill_of_software(source, digests[f"{PACKAGE}/{PACKAGE}.tar.gz"], parts))
    return _digest(file)


def _write_provenance(
    out: Path,
    order: "BuildOrder",
    source: SourceFacts,
    inputs: Mapping[str, Any],
    digests: Mapping[str, str],
    record: Mapping[str, Any],
    key: Ed25519PrivateKey,
) -> None:
    parameters = {name: inputs[name] for name in ("configuration", "debuggable", "salts", "optouts")}
    dependencies = [{"name": wheel["file"], "digest": {"sha256": wheel["sha256"]}} for wheel in inputs["wheels"]]
    if order.base is not None:
        dependencies.append({"name": "base image", "digest": {"sha256": _digest(order.base)}})
    artifacts = {name: digest for name, digest in digests.items() if not name.startswith("oci/")}
    artifacts["identity.json"] = _digest(out / "identity.json")
    package = f"{PACKAGE}/{PACKAGE}.tar.gz"
    identity = {name: record[name] for name in ("mr_enclave", "mr_signer", "product_id", "svn", "measurement")}
    lines = (
        sign_statement(provenance_statement(artifacts, source, parameters, dependencies), key),
        sign_statement(identity_statement(package, digests[package], identity), key),
    )
    (out / "provenance.intoto.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def _document(value: Any) -> bytes:
    return msgspec.json.format(encode_document(value), indent=1) + b"\n"


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
