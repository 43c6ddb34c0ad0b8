import errno
import os
from pathlib import Path

import pytest

from uid2.protocol.errors import DurabilityError, StoreFormatError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, encode_entry, start_entry
from uid2.stores.optout_journal import OptOutJournal

NOW = EpochSeconds(1000)
ENTRIES = tuple(OptOutEntry(bytes((n,)) * 32, bytes((n,)) * 33, EpochSeconds(n)) for n in (1, 2, 3))


def journal(path: Path) -> OptOutJournal:
    return OptOutJournal(path, Environment.TEST, NOW)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "log" / "journal.dat"
    log = journal(path)
    for entry in ENTRIES:
        log.append(entry)
    log.close()
    return path


def test_entries_survive_a_restart(filled: Path) -> None:
    assert journal(filled).entries == ENTRIES
    assert filled.read_bytes() == encode_entry(start_entry(NOW)) + b"".join(map(encode_entry, ENTRIES))


@pytest.mark.parametrize("left", range(1, 72))
def test_a_truncated_last_entry_is_cut_off(filled: Path, left: int) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole[: 3 * 72 + left])
    log = journal(filled)
    assert log.entries == ENTRIES[:2]
    log.append(ENTRIES[2])
    assert filled.read_bytes() == whole


def test_every_append_is_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = journal(tmp_path / "journal.dat")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log.append(ENTRIES[0])
    assert synced == [144]


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_keeps_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    log = journal(filled)
    before = filled.read_bytes()
    real = os.fsync
    failures = iter((True,))

    def refuse(*arguments: int | bytes) -> int | None:
        if call == "fsync" and not next(failures, False):
            return real(int(arguments[0]))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(DurabilityError, match="No space left"):
            log.append(ENTRIES[0])
    assert filled.read_bytes() == before
    log.append(ENTRIES[0])
    assert journal(filled).entries == (*ENTRIES, ENTRIES[0])


def test_special_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        journal(tmp_path / "journal.dat").append(start_entry(NOW))


def test_a_journal_of_whole_entries_of_any_content_opens(filled: Path) -> None:
    filled.write_bytes(os.urandom(72 * 4))
    try:
        found = len(journal(filled).entries)
    except StoreFormatError:
        pytest.fail("every 72 bytes are an entry")
    assert found == 4
