"""Images without an engine: the same bytes each time, read by other people's tools."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from uid2.packaging.archive_tree import read_tree
from uid2.packaging.docker_archive import copy_plain, write_docker_archive
from uid2.packaging.image import ImageSettings, OciImage, encode_document, write_layer, write_oci, write_tar
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError

EPOCH = 1_760_000_000
TAGS = ("registry.example/uid2/operator:dev", "registry.example/uid2/operator:1.0.abc")
SETTINGS = ImageSettings(
    entrypoint=("/bin/bash", "/root/run.sh"),
    command=("occlum", "run", "/bin/launcher"),
    working_folder="/root",
    ports=(8080, 9080),
    created=EPOCH,
    labels={"org.uid2.base": "stub"},
)


def sample_tree(folder: Path) -> RootFileSystem:
    source = folder / "source"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(os.urandom(0) + b"content\n")
    source.chmod(0o700)
    tree = RootFileSystem()
    tree.take("/bin/program", source)
    tree.symlink("/bin/sh", "program")
    tree.file("/a-b/file", b"1")
    tree.file("/a/file", b"2")
    tree.file("/" + "/".join(["long" * 20] * 3) + "/näme", b"3")
    tree.folder("/tmp")
    return tree


def write_all(folder: Path) -> tuple[OciImage, dict[str, str]]:
    folder.mkdir()
    layer = write_layer(sample_tree(folder), folder / "layer", EPOCH)
    image = write_oci(folder / "oci", [layer], SETTINGS, TAGS)
    write_docker_archive(image, folder / "docker.tar.gz", TAGS, EPOCH)
    copy_plain(image, folder / "plain.tar.gz")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "source"]
    return image, {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_writings_are_the_same_bytes(tmp_path: Path) -> None:
    _, first = write_all(tmp_path / "one")
    before = os.umask(0o077)
    try:
        _, second = write_all(tmp_path / "two")
    finally:
        os.umask(before)
    assert first == second
    assert len(first) == 7


def test_members_carry_nothing_of_the_machine(tmp_path: Path) -> None:
    image, _ = write_all(tmp_path / "one")
    with tarfile.open(image.layers[0].blob) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        "a",
        "a/file",
        "a-b",
        "a-b/file",
        "bin",
        "bin/program",
        "bin/sh",
        *("/".join(["long" * 20] * depth) for depth in (1, 2, 3)),
        "/".join(["long" * 20] * 3) + "/näme",
        "tmp",
    ]
    assert {(m.uid, m.gid, m.uname, m.gname, int(m.mtime)) for m in members} == {(0, 0, "", "", EPOCH)}
    assert {(m.type, m.mode) for m in members} == {
        (tarfile.DIRTYPE, 0o755),
        (tarfile.REGTYPE, 0o755),
        (tarfile.REGTYPE, 0o644),
        (tarfile.SYMTYPE, 0o777),
    }
    head = image.layers[0].blob.read_bytes()[:10]
    assert head[3] == 0
    assert head[4:8] == bytes(4)


def test_all_three_forms_hold_the_same_files(tmp_path: Path) -> None:
    write_all(tmp_path / "one")
    entries = read_tree(tmp_path / "one" / "oci").entries
    assert entries == read_tree(tmp_path / "one" / "docker.tar.gz").entries
    assert entries == read_tree(tmp_path / "one" / "plain.tar.gz").entries
    assert len(entries) == 12


def test_the_digests_of_the_documents_hold(tmp_path: Path) -> None:
    image, _ = write_all(tmp_path / "one")
    config = json.loads(image.config_bytes)
    layer = image.layers[0]
    unpacked = gzip.decompress(layer.blob.read_bytes())
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(unpacked).hexdigest()}"]
    assert layer.tar_size == len(unpacked)
    assert config["created"] == "2025-10-09T08:53:20Z"
    assert config["config"]["Labels"] == {"org.uid2.base": "stub"}
    assert config["config"]["ExposedPorts"] == {"8080/tcp": {}, "9080/tcp": {}}
    assert encode_document(config) == image.config_bytes
    assert set(image.digests()) == {"manifest", "config", "layer0", "diff_id0"}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_layout_and_the_docker_archive(tmp_path: Path) -> None:
    image, _ = write_all(tmp_path / "one")
    unpacked = tmp_path / "docker.tar"
    # skopeo 1.9 cannot read gzipped archives, whoever wrote them.
    unpacked.write_bytes(gzip.decompress((tmp_path / "one" / "docker.tar.gz").read_bytes()))
    for source in (f"oci:{tmp_path / 'one' / 'oci'}:dev", f"docker-archive:{unpacked}:{TAGS[1]}"):
        command = ["skopeo", "inspect", "--config", source]
        inspected = subprocess.run(command, capture_output=True, text=True, check=False)
        assert inspected.returncode == 0, inspected.stderr
        assert json.loads(inspected.stdout)["rootfs"]["diff_ids"] == [f"sha256:{image.layers[0].diff_id}"]
    copied = tmp_path / "copied.tar"
    command = [
        "skopeo",
        "--insecure-policy",
        "copy",
        f"oci:{tmp_path / 'one' / 'oci'}:dev",
        f"docker-archive:{copied}:x:y",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert read_tree(copied).entries == read_tree(tmp_path / "one" / "oci").entries


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
def test_umoci_unpacks_the_layout(tmp_path: Path) -> None:
    write_all(tmp_path / "one")
    command = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'one' / 'oci'}:dev", str(tmp_path / "bundle")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    unpacked = read_tree(tmp_path / "bundle" / "rootfs").entries
    assert {name: (entry.kind, entry.digest) for name, entry in unpacked.items()} == {
        name: (entry.kind, entry.digest) for name, entry in read_tree(tmp_path / "one" / "oci").entries.items()
    }


def test_a_folder_laid_out_is_the_tree(tmp_path: Path) -> None:
    tree = sample_tree(tmp_path)
    tree.write_to(tmp_path / "out")
    buffer = io.BytesIO()
    write_tar(tree, buffer, EPOCH)
    (tmp_path / "t.tar").write_bytes(buffer.getvalue())
    assert read_tree(tmp_path / "out").entries == read_tree(tmp_path / "t.tar").entries


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    tree = RootFileSystem()
    tree.file("a/b", b"x")
    tree.file("a/b", b"x")
    with pytest.raises(EnclaveFileError, match="two different"):
        tree.file("a/b", b"y")
    with pytest.raises(EnclaveFileError, match="is a file"):
        tree.file("a/b/c", b"")
    with pytest.raises(EnclaveFileError, match="is a folder"):
        tree.file("a", b"")
    with pytest.raises(EnclaveFileError, match="leaves"):
        tree.file("a/../../b", b"")
    with pytest.raises(EnclaveFileError, match="without a path"):
        tree.file("/", b"")
    setuid = tmp_path / "setuid"
    setuid.write_bytes(b"")
    setuid.chmod(0o4755)
    with pytest.raises(EnclaveFileError, match="setuid"):
        tree.take("s", setuid)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EnclaveFileError, match="no file"):
        tree.take("p", tmp_path / "pipe")


def test_links_are_followed_inside_the_root() -> None:
    tree = RootFileSystem()
    tree.file("usr/lib/libc.so.6", b"")
    tree.symlink("lib", "usr/lib")
    tree.symlink("lib64", "/../lib")
    tree.symlink("loop", "loop")
    assert tree.leads_to("/lib64/libc.so.6") == "usr/lib/libc.so.6"
    assert tree.leads_to("lib/../lib/./libc.so.6") == "usr/lib/libc.so.6"
    assert tree.leads_to("loop") is None
    assert tree.leads_to("none") is None
