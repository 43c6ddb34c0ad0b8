"""The list of every file of a root file system, from which anyone can tell two apart (enclave chapter, 6.3)."""

import hashlib
from typing import Any

from uid2.packaging.image import encode_document
from uid2.packaging.rootfs import RootFileSystem


def file_manifest(tree: RootFileSystem) -> list[dict[str, Any]]:
    """One entry a node, sorted by path: path, kind, mode (octal text), and size with SHA-256 or the link's target."""
    entries: list[dict[str, Any]] = []
    for path, node in tree.nodes():
        entry: dict[str, Any] = {"path": f"/{path}", "kind": node.kind, "mode": f"{node.mode:04o}"}
        if node.kind == "file":
            entry |= {"size": node.size, "sha256": node.digest()}
        elif node.kind == "symlink":
            entry["target"] = node.target
        entries.append(entry)
    return entries


def content_digest(entries: list[dict[str, Any]], occlum_json: bytes) -> bytes:
    """What a simulated measurement stands on: SHA-256 over both documents' SHA-256."""
    return hashlib.sha256(
        hashlib.sha256(encode_document(entries)).digest() + hashlib.sha256(occlum_json).digest()
    ).digest()
