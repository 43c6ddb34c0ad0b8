"""The pieces of a build by themselves: bill of materials, wheels, modules, interpreter, configuration, source."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tests.unit.packaging.build_stage import ROOT, needs_python, write_wheel

from uid2.operator.settings import ACCEPTED, config_keys, settings_of
from uid2.packaging.application import KEPT_OUT, trace_application
from uid2.packaging.archive_tree import read_tree
from uid2.packaging.baked_config import NAMES, baked_config
from uid2.packaging.base_layer import copy_base, write_merged
from uid2.packaging.bom import assemble
from uid2.packaging.image import write_gzipped_tar
from uid2.packaging.interpreter import PREFIX, PREFIX_DIGEST, choose_interpreter, place_interpreter
from uid2.packaging.provenance import load_provenance_key
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.packaging.source import CHANGED, source_facts
from uid2.packaging.wheels import PLATFORMS, collect_wheels, place_wheel, read_wheel, top_level_names
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.service.config import load_configuration

BILL = """
excludes: [left-out]
targets:
  - target: /bin
    mkdirs: [empty]
    createlinks: [{src: /opt/tool, linkname: sh}]
    copy: [{from: programs, files: [tool, {name: tool, rename: other, hash: HASH}]}]
  - target: /opt
    copy: [{dirs: [programs]}, {from: ., dirs: [programs/]}]
"""
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def bill(folder: Path, text: str) -> RootFileSystem:
    (folder / "programs/left-out").mkdir(parents=True, exist_ok=True)
    (folder / "programs/left-out/x").write_text("x")
    (folder / "programs/tool").write_text("test")
    (folder / "programs/tool").chmod(0o755)
    (folder / "bom.yaml").write_text(text)
    return assemble(folder / "bom.yaml", folder)


def test_a_bill_becomes_a_tree(tmp_path: Path) -> None:
    tree = bill(tmp_path, BILL.replace("HASH", HASH))
    assert [path for path, _ in tree.nodes()] == [
        "bin", "bin/empty", "bin/other", "bin/sh", "bin/tool", "opt", "opt/programs", "opt/programs/tool", "opt/tool",
    ]  # fmt: skip
    assert tree["bin/other"].executable
    assert tree["bin/sh"].target == "/opt/tool"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BILL.replace("HASH", "00"), "another hash"),
        ("targets: [{target: bin}]", "needs a folder"),
        ("targets: [{target: /bin, copy: [{files: [none]}]}]", "not there"),
        ("targets: [{target: /bin, copy: [{dirs: [none]}]}]", "not there"),
        ("targets: [{target: /bin, chmod: 1}]", "unknown key chmod"),
        ("includes: [bom.yaml]", "includes itself"),
        ("targets: {}", "list of mappings"),
        ("- a", "mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_bill_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    if text == "targets: {}":
        text = "targets: {a: b}"
    with pytest.raises(ConfigurationError, match=message):
        bill(tmp_path, text)


def test_equal_content_zipped_anew_is_told_apart_by_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    members = {"lib/__init__.py": b"import os\n" * 200, "lib/tests/t.py": b"", "lib/x.pyi": b"", "lib/y.c": b""}
    members |= {"lib-1.0.data/scripts/run": b"#!x", "lib-1.0.data/purelib/more.py": b""}
    one = read_wheel(write_wheel(tmp_path / "lib-1.0-py3-none-any.whl", members))
    other = read_wheel(write_wheel(tmp_path / "b/lib-1.0-py3-none-any.whl", members, level=1))
    assert one.content == other.content
    assert one.sha256 != other.sha256
    tree = RootFileSystem()
    place_wheel(one, tree, "site")
    assert [path for path, _ in tree.files()] == [
        "site/lib/__init__.py",
        "site/lib-1.0.dist-info/METADATA",
        "site/more.py",
    ]
    assert "lib" in top_level_names(one)


def test_a_damaged_wheel_is_refused_at_every_byte_that_matters(tmp_path: Path) -> None:
    file = write_wheel(tmp_path / "lib-1.0-py3-none-any.whl", {"lib.py": b"A = 1\n"}, level=0)
    data = file.read_bytes()
    at = data.index(b"A = 1")
    file.write_bytes(data[:at] + b"B" + data[at + 1 :])
    with pytest.raises(EnclaveFileError, match=r"lib-1\.0"):
        read_wheel(file)
    for length in range(0, len(data), 7):
        file.write_bytes(data[:length])
        with pytest.raises(EnclaveFileError):
            read_wheel(file)


def test_only_wheels_for_an_old_c_library_are_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def refuse(words: object) -> int:
        asked.extend(words)  # type: ignore[arg-type]
        return 1

    with pytest.raises(DependencyError, match=r"glibc 2\.28"):
        collect_wheels(tmp_path / "enclave.txt", tmp_path / "wheels", "3.11", refuse)
    assert "--require-hashes" in asked
    assert "--only-binary=:all:" in asked
    platforms = [after for word, after in pairwise(asked) if word == "--platform"]
    assert platforms == list(PLATFORMS)
    assert not [name for name in platforms if name.startswith(("manylinux_2_3", "linux"))]


def test_the_operators_modules_come_without_those_that_stay_outside() -> None:
    application = trace_application(ROOT / "src")
    assert "uid2.operator.main" in application.modules
    assert "uid2.attestation.tee.occlum" in application.modules
    outside = tuple(f"{kept}." for kept in KEPT_OUT)
    assert not [name for name in application.modules if f"{name}.".startswith(outside)]
    assert "uid2.corelink.link" in application.modules
    assert not application.libraries & {"typer", "rich", "click", "yaml", "dcap_qvl", "pyarrow"}
    assert [file.name for file in application.data] == ["openapi.json"]


def test_an_import_of_what_stays_outside_is_refused(tmp_path: Path) -> None:
    for name, text in (("uid2", ""), ("uid2/operator", ""), ("uid2/simtee", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "uid2/operator/__main__.py").write_text("def f():\n    from uid2.simtee import x\n")
    with pytest.raises(EnclaveFileError, match=r"uid2\.simtee"):
        trace_application(tmp_path)


def test_the_operator_starts_without_the_command_lines_libraries() -> None:
    script = (
        "import sys, uid2.operator.__main__ as m; code = m.main([]);"
        "print(code, [n for n in ('typer', 'yaml', 'uid2.cli', 'uid2.simtee', 'dcap_qvl') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert "expected one configuration file" in done.stderr


@needs_python
def test_a_portable_interpreter_must_be_pinned(tmp_path: Path) -> None:
    machine = choose_interpreter({})
    facts = {"version": [3, 12, 1], "stdlib": str(tmp_path / "lib/python3.12"), "prefix": str(tmp_path), "shared": ""}
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib/python3.12/test").mkdir(parents=True)
    (tmp_path / "lib/python3.12/os.py").write_text("")
    (tmp_path / "lib/python3.12/test/t.py").write_text("")
    (tmp_path / "bin/python3").write_bytes(machine.program.read_bytes()[:100])

    def probe(command: object) -> str:
        return json.dumps(facts | {"program": str(tmp_path / "bin/python3")})

    environ = {PREFIX: str(tmp_path)}
    with pytest.raises(ConfigurationError, match="not pinned") as refused:
        choose_interpreter(environ, probe)
    digest = str(refused.value.next_step).rpartition("=")[2]
    found = choose_interpreter(environ | {PREFIX_DIGEST: digest}, probe)
    assert (found.origin, found.short_version) == ("portable", "3.12")
    tree = RootFileSystem()
    place_interpreter(found, tree)
    assert [path for path, _ in tree.files()] == ["opt/python/bin/python3.12", "opt/python/lib/python3.12/os.py"]
    (tmp_path / "lib/python3.12/os.py").write_text("changed")
    with pytest.raises(ConfigurationError, match="pins"):
        choose_interpreter(environ | {PREFIX_DIGEST: digest}, probe)
    with pytest.raises(ConfigurationError, match="stands alone"):
        choose_interpreter({PREFIX: str(tmp_path / "none")})


@pytest.mark.parametrize("name", NAMES)
def test_the_operator_accepts_each_configuration(name: str) -> None:
    config = baked_config(ROOT / "scripts/azure/conf", name)
    loaded = load_configuration(config_keys(), ROOT / f"scripts/azure/conf/{name}-config.json", {}, accepted=ACCEPTED)
    assert settings_of(loaded.members | {"core_api_token": "x"}) is not None
    assert loaded.sealed is (name in ("integ", "prod"))
    assert config.environment == (name if name in ("integ", "prod") else None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core_attest_url": "http://core.example/attest"}, "core_attest_url is not https"),
        ({"core_attest_url": None}, "names no core_attest_url"),
        ({"optout_api_uri": "http://o.example"}, "optout_api_uri is not https"),
        ({"sealed": False}, "sealed"),
        ({"environment": "development"}, "environment: prod"),
        ({"storage_mock": True}, "storage_mock"),
        ({"dangerous_simulated_tee": "/x"}, "dangerous_simulated_tee"),
    ],
)
def test_an_unsafe_production_configuration_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    members = json.loads((ROOT / "scripts/azure/conf/prod-config.json").read_bytes())
    (tmp_path / "prod-config.json").write_text(json.dumps(members | change))
    with pytest.raises(ConfigurationError, match=message):
        baked_config(tmp_path, "prod")
    (tmp_path / "prod-config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="JSON"):
        baked_config(tmp_path, "prod")
    with pytest.raises(ConfigurationError, match="unknown configuration"):
        baked_config(tmp_path, "../prod")


def test_where_a_build_takes_its_time_from(tmp_path: Path) -> None:
    answers = {"rev-parse": "a" * 40, "status": "", "log": "1760000000"}

    def git(words: object, folder: Path) -> str | None:
        return answers.get(words[0])  # type: ignore[index]

    assert source_facts(tmp_path, "1.0", {}, git).tag == "1.0." + "a" * 12
    answers["status"] = " M file"
    assert source_facts(tmp_path, "1.0", {"SOURCE_DATE_EPOCH": "1700000000"}, git).epoch == 1_700_000_000
    assert source_facts(tmp_path, "1.0", {}, git).tag.endswith(CHANGED)
    answers.clear()
    with pytest.raises(ConfigurationError, match="no git work tree"):
        source_facts(tmp_path, "1.0", {}, git)
    for epoch in ("", "-1", "tomorrow", "1"):
        with pytest.raises(ConfigurationError, match="SOURCE_DATE_EPOCH"):
            source_facts(tmp_path, "1.0", {"SOURCE_DATE_EPOCH": epoch}, git)
    with pytest.raises(ConfigurationError, match="no version"):
        source_facts(tmp_path, "1 0", {}, git)


def test_a_base_and_our_layer_merge_into_one_archive(tmp_path: Path) -> None:
    base, ours = RootFileSystem(), RootFileSystem()
    base.file("bin/bash", b"bash", executable=True)
    base.file("root/run.sh", b"old")
    ours.file("root/run.sh", b"new", executable=True)
    write_gzipped_tar(base, tmp_path / "base.tar", 1)
    write_gzipped_tar(ours, tmp_path / "ours", 1)
    layer = copy_base(tmp_path / "base.tar", tmp_path / "layer")
    write_merged([layer.blob, tmp_path / "ours"], tmp_path / "merged")
    tree = read_tree(tmp_path / "merged")
    assert sorted(tree.entries) == ["bin", "bin/bash", "root", "root/run.sh"]
    assert tree.entries["root/run.sh"].size == 3
    assert tree.entries["root/run.sh"].mode == 0o755
    (tmp_path / "wrong").write_bytes(b"no archive")
    with pytest.raises(EnclaveFileError, match="no tar archive"):
        copy_base(tmp_path / "wrong", tmp_path / "wrong.layer")


def test_a_key_of_another_kind_signs_no_provenance() -> None:
    with pytest.raises(ConfigurationError, match="Ed25519"):
        load_provenance_key((ROOT / "scripts/azure/keys/simulated-signer.pem").read_bytes(), "key")
