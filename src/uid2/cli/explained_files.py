"""Sections that explain salt files and opt-out files; salts and hashes themselves are not shown."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uid2.cli.explained import Rows, Sections
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


def delta_sections(path: Path, shown: int) -> Sections:
    """Entries of an opt-out file; raw UIDs are shown, as partners receive them, identity hashes are not."""
    from uid2.protocol.encoding import encode_base64
    from uid2.protocol.optout_log import ENTRY_LENGTH, NULL_HASH, ONES_HASH, OptOutFileName, iter_entries

    data = _read(path)
    name = OptOutFileName.parse(path.name)
    rows: Rows = [("size", f"{len(data)} bytes, {len(data) // ENTRY_LENGTH} entries of {ENTRY_LENGTH}")]
    if name is None:
        rows.append(("name", "not the name of a delta or partition file"))
    else:
        rows.append(("kind", name.kind))
        rows.append(("replica", f"{name.replica}{' (synthetic)' if name.synthetic else ''}"))
        rows.append(("made", "no time in the name" if name.created is None else moment(name.created * 1000)))
    if len(data) % ENTRY_LENGTH:
        rows.append(("torn end", f"{len(data) % ENTRY_LENGTH} bytes beyond the last whole entry"))
        data = data[: len(data) // ENTRY_LENGTH * ENTRY_LENGTH]
    listed: Rows = []
    for number, entry in enumerate(iter_entries(data, Environment.PROD)):
        if number >= shown:
            break
        at = moment(entry.timestamp * 1000)
        kind = {NULL_HASH: "start of window", ONES_HASH: "end of window"}.get(bytes(entry.identity_hash))
        listed.append((f"entry {number}", f"{at}  {kind or 'raw UID ' + encode_base64(entry.advertising_id)}"))
    return [("Opt-out file", rows), ("entries", listed or [("(none shown)", "")])]


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
