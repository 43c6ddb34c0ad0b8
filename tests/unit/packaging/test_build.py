"""A whole build without Occlum: its artifacts agree with each other, and two builds are the same bytes."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.unit.packaging.build_stage import EPOCH, ROOT, needs_python, order, write_parts

from uid2.packaging.archive_tree import FileTree, read_tree
from uid2.packaging.build import SIMULATED_PROVENANCE, build_package
from uid2.packaging.diff import diff_paths
from uid2.packaging.inspect import compare_with_record
from uid2.packaging.occlum import find_occlum
from uid2.packaging.provenance import verify_envelope
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.protocol.errors import ConfigurationError

pytestmark = [needs_python, pytest.mark.slow]
ENVIRON = {"SOURCE_DATE_EPOCH": EPOCH}
PACKAGE = "uid2-operator/uid2-operator.tar.gz"
PLAIN = "uid2-operator-azure-sgx.tar.gz"
DOCKER = "uid2-operator-azure-sgx.docker.tar.gz"


def no_stores(folder: Path, seed: bytes, now: int) -> list[str]:
    folder.mkdir()
    (folder / "metadata.json").write_bytes(b"%d" % now)
    return ["a sample"]


def build(output: Path, parts: Path, configuration: str = "sim", **changes: object) -> Path:
    build_package(order(output, parts, configuration, **changes), ENVIRON, lambda _: None, no_stores)
    return output


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts") / "parts")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    return build(tmp_path_factory.mktemp("build") / "build", parts)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def paths(tree: FileTree) -> dict[str, str]:
    return {path: entry.digest or entry.target for path, entry in tree.entries.items()}


def test_package_and_every_form_of_the_image_hold_the_recorded_enclave(built: Path) -> None:
    record = json.loads((built / "identity.json").read_bytes())
    assert record["measurement"] == "simulated"
    assert record["mr_enclave"].startswith("0" * 16)
    assert record["base"] == "stub"
    for name in (PACKAGE, PLAIN, DOCKER, "oci"):
        assert compare_with_record(built / "identity.json", built / name).mr_enclave == record["mr_enclave"]
    assert paths(read_tree(built / "oci")) == paths(read_tree(built / PLAIN)) == paths(read_tree(built / DOCKER))


def test_the_image_has_what_the_operator_needs_and_no_more(built: Path) -> None:
    files = read_tree(built / PACKAGE).entries
    inside = {path.removeprefix("uid2-operator/image/") for path in files}
    library = next(path for path in sorted(inside) if path.startswith("opt/python/lib/python3."))
    packages = f"{library}/site-packages"
    assert {
        "bin/launcher",
        "bin/sgx_quote",
        "app/conf/config.json",
        "app/conf/limits",
        "tmp",
        "opt/uid2/operator-optout",
    } <= inside
    assert f"{packages}/uid2/operator/__main__.py" in inside
    kept_out = ("simtee", "cli", "admin", "devstack", "packaging", "optout", "core")
    assert not [path for path in inside if path.startswith(tuple(f"{packages}/uid2/{name}/" for name in kept_out))]
    assert not [path for path in inside if "/idlelib/" in path or "/test/" in path or "ensurepip" in path]
    assert files["uid2-operator/image/bin/launcher"].mode == 0o755


def test_another_umask_place_zone_and_locale_give_the_same_bytes(
    built: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    before = os.umask(0o077)
    try:
        second = build(tmp_path / "far" / "away", parts)
    finally:
        os.umask(before)
    assert digests(second) == digests(built)


def test_another_configuration_is_another_enclave_and_the_file_is_named(
    built: Path, parts: Path, tmp_path: Path
) -> None:
    other = build(tmp_path / "prod", parts, "prod")
    for name in (PACKAGE, "oci"):
        found = diff_paths(built / name, other / name)
        assert [str(each.name) for each in found if each.area == "enclave file"] == ["/app/conf/config.json"]
        assert {str(each.area) for each in found} == {"enclave file", "identity", "derived"}
    with pytest.raises(EnclaveFileError, match="mr_enclave"):
        compare_with_record(built / "identity.json", other / PACKAGE)


def test_provenance_and_bill_of_software_name_the_artifacts(built: Path) -> None:
    public = load_pem_private_key((ROOT / SIMULATED_PROVENANCE).read_bytes(), None).public_key()
    lines = (built / "provenance.intoto.jsonl").read_bytes().splitlines()
    provenance, identity = (verify_envelope(line, public) for line in lines)  # type: ignore[arg-type]
    for subject in provenance["subject"]:
        assert subject["digest"]["sha256"] == hashlib.sha256((built / subject["name"]).read_bytes()).hexdigest()
    assert {subject["name"] for subject in provenance["subject"]} >= {
        PACKAGE,
        PLAIN,
        DOCKER,
        "identity.json",
        "sbom.cdx.json",
    }
    assert identity["predicate"]["mr_enclave"] == json.loads((built / "identity.json").read_bytes())["mr_enclave"]
    with pytest.raises(EnclaveFileError):
        verify_envelope(lines[0].replace(b'"payload":"ey', b'"payload":"eX'), public)  # type: ignore[arg-type]
    components = {part["name"] for part in json.loads((built / "sbom.cdx.json").read_bytes())["components"]}
    assert {"every", "cpython", "pyo3", "sha2", "base-stub"} <= components


def test_mock_mode_brings_its_stores_and_fast_leaves_images_out(parts: Path, tmp_path: Path) -> None:
    out = build(tmp_path / "local", parts, "local", fast=True)
    assert not (out / "oci").exists()
    assert not (out / PLAIN).exists()
    assert "uid2-operator/image/app/stores/metadata.json" in read_tree(out / PACKAGE).entries


def test_an_older_build_is_replaced_and_a_failed_one_leaves_it(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "build"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(ConfigurationError, match="debuggable"):
        build(out, parts, "prod", debuggable=True)
    assert [found.name for found in tmp_path.iterdir()] == ["build"]
    assert (out / "old").exists()
    build(out, parts, fast=True)
    assert not (out / "old").exists()
    assert [found.name for found in tmp_path.iterdir()] == ["build"]


def test_parts_of_other_sources_are_refused(parts: Path, tmp_path: Path) -> None:
    stale = write_parts(tmp_path / "parts")
    record = msgspec.json.decode((stale / "parts.json").read_bytes())
    (stale / "parts.json").write_bytes(msgspec.json.encode(record | {"sources": "0" * 64}))
    with pytest.raises(ConfigurationError, match="other sources"):
        build(tmp_path / "out", stale)
    with pytest.raises(ConfigurationError, match="no parts"):
        build(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_wheel_that_needs_a_newer_c_library_ends_the_build(tmp_path: Path) -> None:
    new = Path("/bin/ls").read_bytes()
    parts = write_parts(tmp_path / "parts", {"every/ls": new})
    with pytest.raises(EnclaveFileError, match=r"every/ls: needs glibc 2\.3[2-9]"):
        build(tmp_path / "out", parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_occlum() is not None, reason="Occlum is here, so a push is possible")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["production"], 1, "unknown configuration production"),
        (["prod", "--quick"], 1, "unknown flag --quick"),
        (["prod", "sim"], 1, "two configurations"),
        (["prod", "--build-version"], 1, "needs a value"),
        (["prod", "--push"], 2, "cannot be pushed"),
    ],
)
def test_the_build_script_refuses(words: list[str], code: int, message: str) -> None:
    done = subprocess.run([ROOT / "scripts/azure/build.sh", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "next step" in done.stderr
