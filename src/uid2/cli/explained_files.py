"""Sections that explain salt files and opt-out files; salts and hashes themselves are not shown."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uid2.cli.explained import Rows, Sections, raw_uid_kind
from uid2.cli.layout import distance, moment
from uid2.protocol.errors import ConfigurationError, StoreFormatError
from uid2.protocol.ids import Environment, EpochMillis, KeyId

if TYPE_CHECKING:
    from uid2.protocol.keysets import KeysetKey
    from uid2.protocol.salts import SaltBucket

DAY_MS: Final = 86_400_000


def read_keys(path: Path) -> "Callable[[KeyId], KeysetKey | None]":
    """A look-up over the keys of a keyset_keys.json."""
    from uid2.protocol.keysets import parse_keyset_keys

    try:
        return {key.id: key for key in parse_keyset_keys(_read(path))}.get
    except StoreFormatError as error:
        raise error.in_file(str(path)) from None


def salts_sections(path: Path, row: int | None) -> Sections:
    data = _read(path)
    try:
        return _metadata(data) if data.lstrip()[:1] == b"{" else _salt_rows(data, row)
    except StoreFormatError as error:
        raise error.in_file(str(path)) from None


def delta_sections(path: Path, shown: int, environment: Environment = Environment.PROD) -> Sections:
    """Entries of an opt-out file; raw UIDs are shown, as partners receive them, identity hashes are not.

    `environment` is that of version 4 IDs whose entry does not name it.
    """
    from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutFileKind, OptOutFileName

    data = _read(path)
    name = OptOutFileName.parse(path.name)
    torn = len(data) % ENTRY_LENGTH
    rows: Rows = [("size", f"{len(data)} bytes, {len(data) // ENTRY_LENGTH} entries of {ENTRY_LENGTH}")]
    if name is None:
        rows.append(("name", "not the name of a delta or partition file"))
    else:
        rows.append(("kind", name.kind))
        rows.append(("replica", f"{name.replica}{' (synthetic)' if name.synthetic else ''}"))
        rows.append(("made", "no time in the name" if name.created is None else moment(name.created * 1000)))
    whole = memoryview(data)[: len(data) - torn]
    rows += _tally(whole, sorted_wanted=name is not None and name.kind is OptOutFileKind.PARTITION)
    if torn:
        rows.append(("torn end", f"{torn} bytes beyond the last whole entry"))
    return [("Opt-out file", rows), ("entries", _entries(whole, shown, environment) or [("(none shown)", "")])]


def _tally(whole: memoryview, *, sorted_wanted: bool) -> Rows:
    """What all entries show together."""
    from uid2.protocol.optout_log import ENTRY_LENGTH, HASH_LENGTH, SPECIAL_HASHES

    special, previous, ascending = 0, b"", True
    earliest: int | None = None
    latest = 0
    for at in range(0, len(whole), ENTRY_LENGTH):
        identity_hash = bytes(whole[at : at + HASH_LENGTH])
        ascending &= previous < identity_hash or not at
        previous = identity_hash
        if identity_hash in SPECIAL_HASHES:
            special += 1
            continue
        seconds = int.from_bytes(whole[at + 64 : at + 71], "little")
        earliest = seconds if earliest is None else min(earliest, seconds)
        latest = max(latest, seconds)
    rows: Rows = [("opt-outs", f"{len(whole) // ENTRY_LENGTH - special}, and {special} special entries")]
    if earliest is not None:
        rows += [("earliest", moment(earliest * 1000)), ("latest", moment(latest * 1000))]
    if sorted_wanted:
        rows.append(("order", "ascending by identity hash, each once" if ascending else "NOT ascending: damaged"))
    return rows


def _entries(whole: memoryview, shown: int, environment: Environment) -> Rows:
    from uid2.protocol.encoding import encode_base64
    from uid2.protocol.ids import RawUid
    from uid2.protocol.optout_log import NULL_HASH, ONES_HASH, iter_entries

    names = {NULL_HASH: "special: start of window", ONES_HASH: "special: end of window"}
    listed: Rows = []
    for number, entry in enumerate(islice(iter_entries(whole, environment), shown)):
        identifier = RawUid(entry.advertising_id)
        text = names.get(entry.identity_hash)
        if text is None:
            text = f"raw UID {encode_base64(identifier)} ({raw_uid_kind(identifier)})"
        listed.append((f"entry {number}", f"{moment(entry.timestamp * 1000)}  {text}"))
    return listed


def _metadata(data: bytes) -> Sections:
    from uid2.protocol.salts import parse_salt_metadata, select_snapshot

    now = EpochMillis(time.time_ns() // 1_000_000)
    metadata = parse_salt_metadata(data, now)
    rows: Rows = [
        ("version", metadata.version),
        ("generated", moment(metadata.generated * 1000)),
        ("bucket id prefix", metadata.id_prefix),
        ("first-level salt", f"{len(metadata.first_level)} characters, not shown"),
    ]
    sections: Sections = [("Salts metadata", rows)]
    selected = select_snapshot(metadata.salts, now)
    for snapshot in metadata.salts:
        title = "snapshot in use" if snapshot == selected else "snapshot"
        validity = [
            ("effective", f"{moment(snapshot.effective)}  ({distance(snapshot.effective)})"),
            ("expires", f"{moment(snapshot.expires)}  ({distance(snapshot.expires)})"),
        ]
        sections.append((title, [("location", snapshot.location), ("rows", f"{snapshot.size:,}"), *validity]))
    return sections


def _salt_rows(data: bytes, row: int | None) -> Sections:
    from uid2.protocol.salts import parse_salt_lines

    now = time.time_ns() // 1_000_000
    kinds: Counter[str] = Counter()
    youngest, oldest, total = 0, 0, 0
    wanted: SaltBucket | None = None
    for index, bucket in enumerate(parse_salt_lines(data)):
        total += 1
        kinds["key" if bucket.current_key is not None and not bucket.current_salt else "salt"] += 1
        kinds["with previous"] += bucket.previous_salt is not None or bucket.previous_key is not None
        youngest = max(youngest, bucket.last_updated)
        oldest = min(oldest or bucket.last_updated, bucket.last_updated)
        if index == row:
            wanted = bucket
    rows: Rows = [
        ("rows", f"{total:,}"),
        ("with a salt", f"{kinds['salt']:,}"),
        ("with a key (v4)", f"{kinds['key']:,}"),
        ("with a previous one", f"{kinds['with previous']:,}"),
        ("oldest update", f"{moment(oldest)}  ({(now - oldest) // DAY_MS} days ago)"),
        ("latest update", f"{moment(youngest)}  ({(now - youngest) // DAY_MS} days ago)"),
    ]
    sections: Sections = [("Salt file", rows)]
    if row is not None:
        if wanted is None:
            raise ConfigurationError(f"there is no row {row}", next_step=f"rows run from 0 to {total - 1}")
        sections.append((f"row {row}", _bucket(wanted)))
    return sections


def _bucket(bucket: "SaltBucket") -> Rows:
    def material(salt: str | None, key: object) -> str:
        if salt:
            return f"salt of {len(salt)} characters, not shown"
        return f"key {getattr(key, 'id', '')}, not shown" if key is not None else "none"

    return [
        ("column 0, id", bucket.id),
        ("column 1, updated", f"{moment(bucket.last_updated)}  ({distance(bucket.last_updated)})"),
        ("column 2, 5-7", material(bucket.current_salt, bucket.current_key)),
        ("column 3, refresh", f"{moment(bucket.refresh_from)}  ({distance(bucket.refresh_from)})"),
        ("column 4, 8-10", material(bucket.previous_salt, bucket.previous_key)),
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", next_step="check the path") from None
