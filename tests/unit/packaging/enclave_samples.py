"""A signing key, a small synthetic enclave, and packages and images that hold it."""

import gzip
import hashlib
import io
import json
import tarfile
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.packaging.occlum_config import enclave_sizes, encode_occlum_config, occlum_config
from uid2.packaging.synthetic import SyntheticEnclave, synthetic_library


@cache
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


SAMPLE = SyntheticEnclave(
    content=bytes(range(32)),
    kernel_heap=1 << 20,
    user_space=4 << 20,
    threads=3,
    thread_stack=8192,
    product_id=770,
    svn=2,
    date="20260131",
)


@cache
def sample_library() -> bytes:
    return synthetic_library(SAMPLE, signing_key())


def write_tar(path: Path, members: dict[str, bytes], *, compressed: bool = True) -> Path:
    """A tar archive with fixed owners and times; a name that ends in / is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0) if compressed else buffer.getvalue())
    return path


def package_members(**changes: bytes) -> dict[str, bytes]:
    """A package as a build leaves it; `changes` replace `library`, `settings` or `config`."""
    settings = encode_occlum_config(occlum_config(enclave_sizes(1000, 1000, {})))
    return {
        "uid2-operator/": b"",
        "uid2-operator/Occlum.json": changes.get("settings", settings),
        "uid2-operator/build/lib/libocclum-libos.signed.so": changes.get("library", sample_library()),
        "uid2-operator/image/app/conf/config.json": changes.get("config", b"{}"),
        "uid2-operator/image/bin/launcher": b"\x7fELF launcher",
    }


def write_oci(folder: Path, layer_tar: Path) -> Path:
    """An OCI layout of one gzipped layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = layer_tar.read_bytes()
    unpacked = hashlib.sha256(gzip.decompress(layer)).hexdigest()
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [f"sha256:{unpacked}"]}}).encode()
    manifest = json.dumps({"schemaVersion": 2, "config": blob(config), "layers": [blob(layer)]}).encode()
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [blob(manifest)]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return folder
