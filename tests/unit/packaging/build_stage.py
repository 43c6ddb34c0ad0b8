"""An image's parts without compiler or registry: one wheel that brings every library, programs that are scripts."""

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from uid2.packaging.application import trace_application
from uid2.packaging.build import BuildOrder
from uid2.packaging.interpreter import MACHINE_PROGRAM, choose_interpreter
from uid2.packaging.parts import write_record

ROOT = Path(__file__).resolve().parents[3]
EPOCH = "1760000000"
needs_python = pytest.mark.skipif(not MACHINE_PROGRAM.exists(), reason=f"no {MACHINE_PROGRAM} to put into an image")


def write_wheel(file: Path, members: dict[str, bytes], *, level: int = 6) -> Path:
    """A wheel with a true RECORD."""
    name, version = file.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    members = {**members, f"{info}/METADATA": b"Name: x\n", f"{info}/WHEEL": b"Wheel-Version: 1.0\n"}
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for path, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(data)])
    writer.writerow([f"{info}/RECORD", "", ""])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for path, data in {**members, f"{info}/RECORD": rows.getvalue().encode()}.items():
            archive.writestr(path, data)
    return file


def write_parts(folder: Path, extra: dict[str, bytes] | None = None) -> Path:
    """`extra` are further members of the wheel."""
    (folder / "wheels").mkdir(parents=True)
    (folder / "native").mkdir()
    libraries = sorted(trace_application(ROOT / "src").libraries)
    members = {f"{name}/__init__.py": f"NAME = {name!r}\n".encode() for name in libraries}
    write_wheel(folder / "wheels/every-1.0-py3-none-any.whl", members | (extra or {}))
    for name in ("launcher", "sgx_quote"):
        (folder / "native" / name).write_text(f"#!/bin/python3\nprint({name!r})\n")
    (folder / "native/uid2_native.abi3.so").write_bytes(b"no library\n")
    write_record(ROOT, folder, choose_interpreter({}).short_version)
    return folder


def order(output: Path, parts: Path, configuration: str = "sim", **changes: object) -> BuildOrder:
    chosen: dict[str, object] = {"salts": 1000, "optouts": 1000, "version": "1.0", "parts": parts, **changes}
    return BuildOrder(root=ROOT, configuration=configuration, output=output, **chosen)  # type: ignore[arg-type]
