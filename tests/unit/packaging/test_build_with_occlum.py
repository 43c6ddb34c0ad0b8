"""The build on a machine with Occlum: its command is a double that leaves what the real one would."""

import json
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.unit.packaging.build_stage import EPOCH, ROOT, needs_python, order, write_parts
from tests.unit.packaging.enclave_samples import sample_library, signing_key

from uid2.packaging import build as building
from uid2.packaging.archive_tree import read_tree
from uid2.packaging.build import SIMULATED_SIGNER, build_package
from uid2.packaging.image import write_gzipped_tar
from uid2.packaging.inspect import compare_with_record
from uid2.packaging.interpreter import Interpreter, choose_interpreter
from uid2.packaging.rootfs import RootFileSystem
from uid2.protocol.errors import ConfigurationError

pytestmark = needs_python
DOUBLE = """#!/bin/bash
set -e
echo "$@" >> {calls}
case $1 in
    new) mkdir -p "$2/image" "$2/build/lib" "$2/build/bin"; echo initialized > "$2/.__occlum_status" ;;
    build)
        grep -q '"product_id": 770' Occlum.json
        cp {library} build/lib/libocclum-libos.signed.so
        ln -s /opt/occlum/build/bin/occlum-run build/bin/occlum-run ;;
    package) tar -C .. --exclude image -czf {beside} uid2-operator; mv {beside} "$2.tar.gz" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A double of Occlum, keys, a base image, and an interpreter that is a script."""
    found = {name: tmp_path / name for name in ("occlum", "calls", "library", "signer", "provenance", "base", "python")}
    found["library"].write_bytes(sample_library())
    found["occlum"].write_text(DOUBLE.format(**found, beside=tmp_path / "beside.tar.gz"))
    found["occlum"].chmod(0o755)
    for name, key in (("signer", signing_key()), ("provenance", Ed25519PrivateKey.generate())):
        found[name].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    base = RootFileSystem()
    base.file("bin/bash", b"bash", executable=True)
    base.file("root/run.sh", b"of the base")
    write_gzipped_tar(base, found["base"], 1)
    real = choose_interpreter({})
    found["python"].write_text(f'#!/bin/sh\nexec {real.program} "$@"\n')
    found["python"].chmod(0o755)
    (tmp_path / "stdlib").mkdir()
    (tmp_path / "stdlib/os.py").write_text("")
    portable = Interpreter(found["python"], tmp_path, tmp_path / "stdlib", "", real.version, "portable", "a double")
    monkeypatch.setattr(building, "choose_interpreter", lambda environ: portable)
    found["parts"] = write_parts(tmp_path / "parts")
    found["out"] = tmp_path / "out"
    return found


def build(machine: dict[str, Path], **changes: object) -> dict[str, object]:
    chosen: dict[str, object] = {
        "occlum": str(machine["occlum"]),
        "signing_key": machine["signer"],
        "provenance_key": machine["provenance"],
        "base": machine["base"],
        **changes,
    }
    wanted = order(machine["out"], machine["parts"], "prod", **chosen)
    return dict(build_package(wanted, {"SOURCE_DATE_EPOCH": EPOCH}, lambda _: None, lambda *_: []))


def test_occlum_signs_and_packs_and_the_image_stands_on_its_base(machine: dict[str, Path]) -> None:
    record = build(machine)
    assert record["base"] == "occlum 0.31.0"
    assert [line.split()[0] for line in machine["calls"].read_text().splitlines()] == ["new", "build", "package"]
    assert f"--sign-key {machine['signer']}" in machine["calls"].read_text()
    out = machine["out"]
    for name in ("uid2-operator/uid2-operator.tar.gz", "oci", "uid2-operator-azure-sgx.tar.gz"):
        assert compare_with_record(out / "identity.json", out / name).mr_enclave == record["mr_enclave"]
    files = read_tree(out / "uid2-operator-azure-sgx.tar.gz").entries
    assert {"bin/bash", "root/run.sh", "root/uid2-operator/Occlum.json"} <= files.keys()
    assert files["root/run.sh"].size == (ROOT / "scripts/azure/files/run.sh").stat().st_size
    assert files["root/uid2-operator/build/bin/occlum-run"].target == "/opt/occlum/build/bin/occlum-run"
    assert not [path for path in files if path.startswith("root/uid2-operator/image")]
    assert {path for path, _ in read_tree(out / "oci").entries.items()} == set(files)
    with tarfile.open(out / "uid2-operator-azure-sgx.docker.tar.gz") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert len(json.loads(manifest.read())[0]["Layers"]) == 2


def test_keys_of_ones_own_are_demanded(machine: dict[str, Path]) -> None:
    for changes in ({"signing_key": None}, {"provenance_key": None}, {"signing_key": ROOT / SIMULATED_SIGNER}):
        with pytest.raises(ConfigurationError):
            build(machine, **changes)
    assert not machine["out"].exists()
    assert not machine["calls"].exists()


def test_a_machines_own_interpreter_is_refused(machine: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "choose_interpreter", choose_interpreter)
    with pytest.raises(ConfigurationError, match="C library is newer"):
        build(machine)
    assert not machine["out"].exists()


def test_an_occlum_that_fails_leaves_nothing(machine: dict[str, Path]) -> None:
    machine["occlum"].write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(Exception, match="ended with code 3"):
        build(machine)
    assert not machine["out"].exists()
    assert not list(machine["out"].parent.glob(".out-*"))
