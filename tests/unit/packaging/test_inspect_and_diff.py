"""Packages and images: identity, comparison, differences, and input that is broken or hostile."""

import gzip
import io
import json
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.packaging.enclave_samples import (
    SAMPLE,
    package_members,
    sample_library,
    signing_key,
    write_oci,
    write_tar,
)
from typer.testing import CliRunner

from uid2.cli.main import app
from uid2.packaging.archive_tree import read_tree
from uid2.packaging.diff import Area, diff_paths
from uid2.packaging.enclave_elf import parse_enclave_elf
from uid2.packaging.inspect import compare_with_record, inspect_path
from uid2.packaging.sigstruct import EnclaveFileError, parse_sigstruct
from uid2.packaging.synthetic import synthetic_library


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "uid2-operator.tar.gz", package_members())


def other_library() -> bytes:
    return synthetic_library(replace(SAMPLE, content=bytes(32)), signing_key())


def test_the_identity_is_printed_with_its_label(package: Path) -> None:
    result = CliRunner().invoke(app, ["enclave", "inspect", str(package)])
    sigstruct = parse_sigstruct(parse_enclave_elf(sample_library()).metadata.sigstruct)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0] == f"MRENCLAVE   = {sigstruct.assertion.mr_enclave.hex().upper()}"
    assert lines[1] == f"MRSIGNER    = {sigstruct.mr_signer.hex().upper()}"
    assert lines[2:4] == ["PRODUCT ID  = 770", "SEC VERSION = 2"]
    assert lines[4].startswith("SIMULATED")
    assert "debug         refused by the processor" in lines
    assert "signed on     2026-01-31" in lines


def test_every_form_of_the_same_files_has_the_same_identity(package: Path, tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(sample_library())
    plain = write_tar(tmp_path / "plain.tar", package_members(), compressed=False)
    layout = write_oci(tmp_path / "oci", package)
    docker = write_tar(
        tmp_path / "docker.tar.gz",
        {
            "manifest.json": json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar"]}]).encode(),
            "a/layer.tar": plain.read_bytes(),
        },
    )
    folder = tmp_path / "unpacked"
    with tarfile.open(package) as archive:
        archive.extractall(folder)
    identities = {inspect_path(path).identity for path in (package, plain, layout, docker, folder, library)}
    assert len(identities) == 1
    assert read_tree(layout).entries == read_tree(package).entries == read_tree(docker).entries


def test_a_record_tells_the_same_enclave_from_another(package: Path, tmp_path: Path) -> None:
    record = tmp_path / "identity.json"
    record.write_text(json.dumps(inspect_path(package).identity.record()))
    assert compare_with_record(record, package).product_id == 770
    other = write_tar(tmp_path / "other.tar.gz", package_members(library=other_library()))
    result = CliRunner().invoke(app, ["enclave", "compare", "--record", str(record), str(other)])
    assert isinstance(result.exception, EnclaveFileError)
    assert "mr_enclave: recorded" in result.exception.message
    assert "svn" not in result.exception.message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mr_enclave":"00"}', "not json"])
def test_a_record_that_says_too_little_proves_nothing(package: Path, tmp_path: Path, text: str) -> None:
    record = tmp_path / "identity.json"
    record.write_text(text)
    with pytest.raises(EnclaveFileError):
        compare_with_record(record, package)


def test_one_changed_file_is_named_and_the_rest_follows(package: Path, tmp_path: Path) -> None:
    other = write_tar(tmp_path / "other.tar.gz", package_members(config=b'{"a":1}', library=other_library()))
    found = diff_paths(package, other)
    assert [(item.area, item.name) for item in found] == [
        (Area.ENCLAVE, "/app/conf/config.json"),
        (Area.IDENTITY, "mr_enclave"),
        (Area.DERIVED, "uid2-operator/build/lib/libocclum-libos.signed.so"),
    ]
    assert diff_paths(package, package) == ()


def test_one_changed_setting_is_named(package: Path, tmp_path: Path) -> None:
    settings_text = package_members()["uid2-operator/Occlum.json"].replace(b'"optout_api_token"', b'"PATH"')
    found = diff_paths(package, write_tar(tmp_path / "other.tar.gz", package_members(settings=settings_text)))
    assert [item.line() for item in found] == ["setting         env.untrusted[1]: optout_api_token | PATH"]
    assert "WEAK" in "\n".join(inspect_path(tmp_path / "other.tar.gz").lines())


def test_a_flipped_bit_of_the_signature_is_refused(tmp_path: Path) -> None:
    library = bytearray(sample_library())
    at = library.find(parse_enclave_elf(sample_library()).metadata.sigstruct)
    for offset in (16, 20, 130, 512, 600, 930, 960, 1024, 1026, 1030, 1050, 1500):
        flipped = bytearray(library)
        flipped[at + offset] ^= 1
        path = write_tar(tmp_path / "flipped.tar.gz", package_members(library=bytes(flipped)))
        with pytest.raises(EnclaveFileError, match="SIGSTRUCT"):
            inspect_path(path)


def test_changed_content_under_a_good_signature_is_refused(tmp_path: Path) -> None:
    library = bytearray(sample_library())
    library[4096 + 90] ^= 1
    with pytest.raises(EnclaveFileError, match="content"):
        inspect_path(write_tar(tmp_path / "p.tar.gz", package_members(library=bytes(library))))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.floats(0, 0.9999))
def test_an_archive_cut_short_is_refused(package: Path, tmp_path: Path, share: float) -> None:
    data = package.read_bytes()
    # What follows the last content is padding, of which a reader needs two blocks.
    members = gzip.decompress(data).rstrip(b"\0")
    for name, whole in (("short.tar.gz", data), ("short.tar", members + bytes(-len(members) % 512 + 1023))):
        path = tmp_path / name
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(EnclaveFileError, match="short"):
            read_tree(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(10, 1 << 20), st.integers(0, 7))
def test_a_damaged_archive_is_refused(package: Path, tmp_path: Path, at: int, bit: int) -> None:
    data = bytearray(package.read_bytes())
    data[10 + at % (len(data) - 10)] ^= 1 << bit
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(data)
    # The bits between the last block and the checksum mean nothing; every other one is refused.
    with suppress(EnclaveFileError):
        assert read_tree(path).entries == read_tree(package).entries


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd", "a/.."])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "p.tar.gz", package_members() | {name: b"x"})
    with pytest.raises(EnclaveFileError, match="leaves"):
        read_tree(path)


def test_devices_and_doubles_are_refused(tmp_path: Path) -> None:
    for kind, names, match in ((tarfile.CHRTYPE, ["dev/sgx"], "device"), (tarfile.REGTYPE, ["a", "./a"], "twice")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.type = kind
                archive.addfile(member)
        (tmp_path / "p.tar").write_bytes(buffer.getvalue())
        with pytest.raises(EnclaveFileError, match=match):
            read_tree(tmp_path / "p.tar")


def test_a_changed_blob_or_layer_digest_is_refused(package: Path, tmp_path: Path) -> None:
    layout = write_oci(tmp_path / "oci", package)
    for blob in sorted((layout / "blobs" / "sha256").iterdir()):
        whole = blob.read_bytes()
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(EnclaveFileError, match="digest of its name"):
            read_tree(layout)
        blob.write_bytes(whole)
    read_tree(layout)


def test_layers_lie_on_top_of_each_other(tmp_path: Path) -> None:
    lower = write_tar(tmp_path / "lower.tar", {"a/": b"", "a/old": b"1", "b": b"1", "c": b"1"}, compressed=False)
    upper = write_tar(tmp_path / "upper.tar", {"a/.wh.old": b"", "b": b"2", ".wh.c": b""}, compressed=False)
    manifest = json.dumps([{"Layers": ["1", "2"]}]).encode()
    path = write_tar(
        tmp_path / "d.tar.gz", {"manifest.json": manifest, "1": lower.read_bytes(), "2": upper.read_bytes()}
    )
    assert sorted(read_tree(path).entries) == ["a", "b"]
    assert read_tree(path).entries["b"] == read_tree(upper).entries["b"]


def test_what_is_no_package_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(EnclaveFileError, match=r"no libocclum-libos\.signed\.so"):
        inspect_path(write_tar(tmp_path / "p.tar.gz", {"file": b"x"}))
    for name, content in (("a", b""), ("b", b"text"), ("c", b"\x1f\x8b"), ("d", b"\x7fELF")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EnclaveFileError):
            inspect_path(tmp_path / name)
    with pytest.raises(EnclaveFileError, match="cannot be read"):
        inspect_path(tmp_path / "missing")


def test_a_member_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("uid2-operator/out")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("uid2-operator/out/file"))
    with pytest.raises(EnclaveFileError, match="through a symbolic link"):
        read_tree(path)
