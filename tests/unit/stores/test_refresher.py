import asyncio
import json
import shutil
from pathlib import Path

import pytest

from uid2.protocol.errors import ConfigurationError, StoreFormatError, StoreUnavailableError
from uid2.protocol.ids import EpochMillis, EpochSeconds, SiteId
from uid2.stores.export import LIST_FILE, StoreExport, read_export, snapshot_from_export
from uid2.stores.kinds import CLOUD_KEYS, KINDS
from uid2.stores.loading import LoadedStore, StoreLoader
from uid2.stores.refresher import StoreRefresher
from uid2.stores.sources.local import LocalSource
from uid2.stores.sources.mock import MockSource

VECTORS = Path(__file__).parents[2] / "vectors" / "stores"
NOW = EpochMillis(1_763_000_000_000)


class Store:
    """A writable copy of the sample data with a refresher on it."""

    def __init__(self, root: Path, *, mock: bool = False, scope: str = "") -> None:
        self.root = root
        encrypted = scope.startswith("encrypted")
        source = MockSource(root) if mock else LocalSource(root)
        prefix = "/com.uid2.core/test/" if mock else ""

        def path(kind: str) -> str:
            inner = scope if KINDS[kind].encryptable else ""
            return f"{prefix}{kind}/{inner}metadata.json"

        self.failures: list[str] = []
        self.refresher = StoreRefresher(
            [StoreLoader(kind, source, path(name), lambda: NOW, encrypted=encrypted) for name, kind in KINDS.items()],
            now=lambda: NOW,
            monotonic=lambda: 0.0,
            on_failure=lambda status, error: self.failures.append(status.component),
        )

    def refresh(self, store: str) -> bool:
        return asyncio.run(self.refresher.refresh(store))

    def write(self, store: str, version: int, content: object) -> None:
        """A new version of a store with that content."""
        metadata = self.root / store / "metadata.json"
        metadata.write_text(json.dumps({**json.loads(metadata.read_bytes()), "version": version}))
        (self.root / store / f"{store}.json").write_text(json.dumps(content))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(VECTORS, tmp_path / "bucket")
    return Store(tmp_path / "bucket")


def test_bucket_image_loads(store: Store) -> None:
    snapshot = store.refresher.load_all()
    assert snapshot.clients.find("UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo=") is not None
    assert snapshot.key_ring.master(EpochSeconds(NOW // 1000)).keyset_id == -1
    assert snapshot.sites[SiteId(124)].domain_names
    assert set(snapshot.keypairs) == {"LBk2xJsgrS"}
    assert "1_Special" in snapshot.service_links
    assert snapshot.salts.select(NOW).table.size == 2
    assert not snapshot.salts.expired(NOW)
    assert store.refresher.ready
    assert store.refresher.statuses["clients"].entries == len(snapshot.clients)


def test_operator_mock_loads(tmp_path: Path) -> None:
    shutil.copytree(VECTORS / "operator-mock", tmp_path / "com.uid2.core" / "test")
    snapshot = Store(tmp_path, mock=True).refresher.load_all()
    assert snapshot.salts.select(NOW).table.size == 5
    assert snapshot.salts.select(NOW).expires == 253402329599000


@pytest.mark.parametrize("scope", ["999_public", "999_private", "124_public", "123_public", "127_public"])
def test_encrypted_stores_load(tmp_path: Path, scope: str) -> None:
    shutil.copytree(VECTORS, tmp_path / "bucket")
    for kind in KINDS.values():
        if kind.encryptable and not (tmp_path / "bucket" / kind.name / "encrypted" / scope).exists():
            shutil.copytree(
                tmp_path / "bucket" / kind.name / "encrypted" / "999_public",
                tmp_path / "bucket" / kind.name / "encrypted" / scope,
            )
    for metadata in (tmp_path / "bucket").glob(f"*/encrypted/{scope}/metadata.json"):
        assert metadata.parent.name == scope
    assert Store(tmp_path / "bucket", scope=f"encrypted/{scope}/").refresher.load_all().key_ring


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("salts", "runtime_config")])
def test_a_broken_file_is_named_and_the_old_one_kept(store: Store, name: str) -> None:
    before = store.refresher.load_all()
    records = json.loads((store.root / name / f"{name}.json").read_bytes())
    store.write(name, 1 << 60, [*records, {"no": "such record"}])
    assert not store.refresh(name)
    status = store.refresher.statuses[name]
    assert (status.failing, status.failures, store.failures) == (True, 1, [KINDS[name].component])
    assert f"file {name}/{name}.json, record {len(records)}, field" in (status.problem or "")
    assert store.refresher.snapshot is before
    store.write(name, 1 << 60, records)
    assert store.refresh(name)
    assert not store.refresher.statuses[name].failing


def test_a_broken_salt_row_is_named_and_all_snapshots_kept(store: Store) -> None:
    before = store.refresher.load_all()
    metadata = json.loads((store.root / "salts" / "metadata.json").read_bytes())
    (store.root / "salts" / "metadata.json").write_text(json.dumps({**metadata, "version": 99}))
    location = metadata["salts"][1]["location"]
    (store.root / location).write_text("1,2,salt,3,,,,,,,\n1,2,salt\n")
    assert not store.refresh("salts")
    assert "line number: 1: 3 columns" in (store.refresher.statuses["salts"].problem or "")
    assert location in (store.refresher.statuses["salts"].problem or "")
    assert store.refresher.snapshot is before


def test_content_is_read_only_when_the_version_grew(store: Store) -> None:
    before = store.refresher.load_all()
    for version in (1, 0):
        store.write("sites", version, "broken")
        assert store.refresh("sites")
    assert store.refresher.snapshot is before
    store.write("sites", 1 << 60, [{"id": 5}])
    assert store.refresh("sites")
    assert set(store.refresher.snapshot.sites) == {5}
    assert store.refresher.snapshot.clients is before.clients
    assert store.refresher.snapshot.versions["sites"] == 1 << 60


def test_start_stops_at_the_first_missing_or_broken_store(store: Store) -> None:
    (store.root / "clients" / "clients.json").unlink()
    with pytest.raises(StoreUnavailableError, match=r"clients/clients\.json"):
        store.refresher.load_all()
    assert not store.refresher.ready
    (store.root / "clients" / "clients.json").write_text("[{}]")
    with pytest.raises(StoreFormatError, match=r"file clients/clients\.json, record 0, field key_hash"):
        store.refresher.load_all()


def test_stale_stores(store: Store) -> None:
    store.refresher.load_all()
    store.refresher.statuses["sites"].last_success = EpochMillis(NOW - 11)
    assert store.refresher.stale(10) == ["sites"]


def test_workers_read_the_export(store: Store, tmp_path: Path) -> None:
    snapshot = store.refresher.load_all()
    folder = tmp_path / "shared"
    export = StoreExport(folder)
    kept = {entry.content.store: export.put(entry) for entry in store.refresher.loaded}
    read = snapshot_from_export(folder)
    assert (read.sites, read.versions, read.runtime_config) == (
        snapshot.sites, snapshot.versions, snapshot.runtime_config,
    )  # fmt: skip
    assert read.salts.metadata == snapshot.salts.metadata
    assert kept["salts"].records.snapshots[0].table.bucket(0) == snapshot.salts.snapshots[0].table.bucket(0)
    assert {type(part) for part in kept["salts"].content.parts} == {memoryview}
    assert folder.stat().st_mode & 0o077 == 0
    store.write("sites", 1 << 60, [{"id": 5}])
    assert store.refresh("sites")
    export.put(_loaded(store, "sites"))
    assert list(read_export(folder, read.versions)) == ["sites"]
    export.tidy()
    assert set(snapshot_from_export(folder).sites) == {5}
    assert not [file for file in folder.iterdir() if file.name.startswith("sites.1.")]
    assert CLOUD_KEYS.name in {file.name.split(".")[0] for file in folder.iterdir()}


def test_an_export_that_finds_no_room_says_what_to_do(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.refresher.load_all()
    export = StoreExport(tmp_path / "shared")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("uid2.stores.export.os.open", full)
    with pytest.raises(ConfigurationError, match=r"salts cannot be shared.*No space left") as caught:
        export.put(_loaded(store, "salts"))
    assert "--shm-size" in caught.value.next_step
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_list_that_names_missing_files_or_is_none_is_refused(store: Store, tmp_path: Path) -> None:
    store.refresher.load_all()
    export = StoreExport(tmp_path)
    export.put(_loaded(store, "sites"))
    next(tmp_path.glob("sites.*.0")).unlink()
    with pytest.raises(StoreFormatError, match="not there"):
        read_export(tmp_path)
    (tmp_path / LIST_FILE).write_bytes(b"[{}]")
    with pytest.raises(StoreFormatError, match="not a list of stores"):
        read_export(tmp_path)


def _loaded(store: Store, name: str) -> LoadedStore:
    return next(loaded for loaded in store.refresher.loaded if loaded.content.store == name)
