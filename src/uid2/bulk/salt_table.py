"""Salt buckets as packed rows that several processes can map.

    header   64   magic 8, rows u32, row kind u32, hot offset u64, cold offset u64, odd offset u64, odd count u32,
                  text offset u64, text length u32
    hot      48   current salt 32, last updated u48, refresh from u48, flags 1, pad 3             (salts only)
             72   current key 24, key salt 32 (or current salt 32 in the first bytes), key id u24, two times, flags
    cold     36   previous salt 32, bucket id u32                                                (salts only)
             64   previous key 24, key salt 32, key id u24, pad 1, bucket id u32
    odd      12 each: row u32, offset u32, length u32, ascending by row; then the rows as text
    text          JSON of first-level salt, id prefix and id secret

A salt is text. Only a value that survives decoding and encoding unchanged is kept as bytes; a row with any other
value is kept as text among the odd rows. All integers are little-endian.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pybase64 import b64encode

from uid2.protocol.bucket_ids import BucketIds
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import KeyMaterial, SaltBucket, SaltMetadata, parse_salt_line, split_salt_lines

MAGIC: Final = b"uid2slt1"
_HEADER: Final = struct.Struct("<8sIIQQQIQI")
HEADER_LENGTH: Final = 64
SALTS_ONLY: Final = 0
WITH_KEYS: Final = 1
HOT: Final = (48, 72)
COLD: Final = (36, 64)
_HOT: Final = (struct.Struct("<32s6s6sB"), struct.Struct("<24s32s3s6s6sB"))
_SALTED: Final = struct.Struct("<32sIHIHB")
_COLD: Final = (struct.Struct("<32sI"), struct.Struct("<24s32s3sxI"))
SALT_LENGTH: Final = 32
_ODD: Final = struct.Struct("<III")

NOTHING: Final = 0
SALT: Final = 1
KEY: Final = 2
PREVIOUS_SHIFT: Final = 2
ODD_FLAG: Final = 0x80

KEY_ID_COLUMNS: Final = slice(5, 9, 3)

_TIME_LIMIT: Final = 1 << 48
_KEY_ID_LIMIT: Final = 1 << 24


class _Texts(msgspec.Struct, frozen=True):
    first_level: str
    id_prefix: str
    id_secret: str


@dataclass(frozen=True, slots=True)
class _Slot:
    kind: int
    salt: bytes = bytes(32)
    key: bytes = bytes(24)
    key_id: int = 0


def count_salts(data: bytes) -> int:
    """The rows of a salt file."""
    return data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))


def salt_texts(metadata: SaltMetadata) -> bytes:
    """The last part of a table."""
    return msgspec.json.encode(_Texts(metadata.first_level, metadata.id_prefix, metadata.id_secret))


def check_salt_line(data: bytes, row: int) -> None:
    """StoreFormatError when that row of a salt file is wrong."""
    _parse_row(split_salt_lines(data)[row], row)


def pack_salt_file(data: bytes, metadata: SaltMetadata) -> bytes:
    """The packed table of a salt file."""
    return pack_salts(split_salt_lines(data), metadata)


def pack_salts(lines: Sequence[bytes], metadata: SaltMetadata) -> bytes:
    """The packed table of a salt file's lines; StoreFormatError names the line that is wrong."""
    kind = WITH_KEYS if any(map(_may_hold_keys, lines)) else SALTS_ONLY
    hot, cold, odd = bytearray(), bytearray(), []
    # Row by row: a million records at once would cost ten times the table.
    for row, line in enumerate(lines):
        packed = _pack_row(_parse_row(line, row), kind)
        if packed is None:
            odd.append((row, line))
            packed = _odd_row(kind)
        hot += packed[0]
        cold += packed[1]
    return _assemble(len(lines), kind, bytes(hot), bytes(cold), odd, metadata)


class SaltTable:
    """Rows of a packed table. The buffer is validated once; it must not change afterwards."""

    def __init__(self, buffer: bytes | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        try:
            magic, rows, kind, hot, cold, odd, odd_count, text, text_length = _HEADER.unpack_from(view)
        except struct.error:
            raise StoreFormatError("the packed salt table is cut short", next_step="load the salts again") from None
        if magic != MAGIC or kind not in (SALTS_ONLY, WITH_KEYS) or text + text_length > len(view):
            raise StoreFormatError("not a packed salt table", next_step="load the salts again")
        if (
            hot + rows * HOT[kind] > len(view)
            or cold + rows * COLD[kind] > len(view)
            or odd + odd_count * 12 > len(view)
        ):
            raise StoreFormatError("the packed salt table is cut short", next_step="load the salts again")
        self.buffer = view
        self.size: int = rows
        self._kind, self._hot, self._cold, self._odd = kind, hot, cold, odd
        self._odd_rows = [_ODD.unpack_from(view, odd + 12 * index) for index in range(odd_count)]
        texts = msgspec.json.decode(view[text : text + text_length], type=_Texts)
        self.first_level_salt = texts.first_level
        self.id_prefix, self.id_secret = texts.id_prefix, texts.id_secret
        self._bucket_ids = BucketIds(texts.id_prefix, texts.id_secret)
        # What another engine keeps with the table.
        self.handle: object | None = None

    def bucket(self, index: int) -> SaltBucket:
        """The bucket of a row; IndexError beyond the table."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        hot, cold = self._hot_row(index), self._cold_row(index)
        updated, refresh, flags = hot[-3:]
        if flags & ODD_FLAG:
            return self._odd_bucket(index)
        salt, key = _unpack_slot(flags & 3, hot)
        previous_salt, previous_key = _unpack_slot(flags >> PREVIOUS_SHIFT & 3, cold)
        return SaltBucket(
            cold[-1],
            EpochMillis(int.from_bytes(updated, "little")),
            salt,
            EpochMillis(int.from_bytes(refresh, "little")),
            previous_salt,
            key,
            previous_key,
        )

    def salted_row(self, index: int) -> tuple[bytes, int, int] | None:
        """Current salt, last update and refresh time of a row; None when `bucket` must read it."""
        if self._kind != SALTS_ONLY:
            return None
        salt, updated, updated_high, refresh, refresh_high, flags = _SALTED.unpack_from(
            self.buffer, self._hot + index * HOT[SALTS_ONLY]
        )
        if flags & (ODD_FLAG | 3) != SALT:
            return None
        return b64encode(salt), updated_high << 32 | updated, refresh_high << 32 | refresh

    def previous_salt(self, index: int) -> bytes | None:
        """The previous salt of a row that `salted_row` reads."""
        at = self._hot + index * HOT[SALTS_ONLY]
        if self.buffer[at + 44] >> PREVIOUS_SHIFT & 3 != SALT:
            return None
        cold = self._cold + index * COLD[SALTS_ONLY]
        return b64encode(self.buffer[cold : cold + SALT_LENGTH])

    def bucket_id(self, index: int) -> str:
        """The public id of a row's bucket."""
        odd = self._hot_row(index)[-1] & ODD_FLAG
        return self._bucket_ids.encode(self._odd_bucket(index).id if odd else self._cold_row(index)[-1])

    def last_updated(self, index: int) -> int:
        """When a row's bucket was updated, epoch milliseconds."""
        updated, _, flags = self._hot_row(index)[-3:]
        return self._odd_bucket(index).last_updated if flags & ODD_FLAG else int.from_bytes(updated, "little")

    def last_updated_range(self) -> tuple[int, int]:
        """Least and greatest last update of all rows, epoch milliseconds; (0, 0) of an empty table."""
        times = [self.last_updated(index) for index in range(self.size)]
        return (min(times), max(times)) if times else (0, 0)

    def modified_since(self, since: int) -> Iterator[int]:
        """The rows updated at `since` (epoch milliseconds) or later, in table order."""
        return (index for index in range(self.size) if self.last_updated(index) >= since)

    def _hot_row(self, index: int) -> tuple[Any, ...]:
        return _HOT[self._kind].unpack_from(self.buffer, self._hot + index * HOT[self._kind])

    def _cold_row(self, index: int) -> tuple[Any, ...]:
        return _COLD[self._kind].unpack_from(self.buffer, self._cold + index * COLD[self._kind])

    def _odd_bucket(self, index: int) -> SaltBucket:
        place = bisect_left(self._odd_rows, index, key=lambda row: row[0])
        row, offset, length = self._odd_rows[place]
        if row != index:
            raise StoreFormatError(
                "the packed salt table lacks a row", record=str(index), next_step="load the salts again"
            )
        return parse_salt_line(bytes(self.buffer[offset : offset + length]).decode(), index)


def _may_hold_keys(line: bytes) -> bool:
    columns = line.split(b",")
    return any(column.strip() for column in columns[KEY_ID_COLUMNS])


def _parse_row(line: bytes, number: int) -> SaltBucket:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise StoreFormatError(
            f"Trouble parsing Salt Entry, line number: {number}", record=str(number), next_step="the line is not UTF-8"
        ) from None
    return parse_salt_line(text, number)


def _pack_row(bucket: SaltBucket, kind: int) -> tuple[bytes, bytes] | None:
    """Hot and cold part; None when a value cannot be kept exactly."""
    current = _pack_slot(bucket.current_salt, bucket.current_key)
    previous = _pack_slot(bucket.previous_salt, bucket.previous_key)
    times = (bucket.last_updated, bucket.refresh_from)
    if current is None or previous is None or not all(0 <= time < _TIME_LIMIT for time in times):
        return None
    if not 0 <= bucket.id < 1 << 31:
        return None
    flags = bytes((current.kind | previous.kind << PREVIOUS_SHIFT,))
    clock = b"".join(time.to_bytes(6, "little") for time in times)
    number = bucket.id.to_bytes(4, "little")
    if kind == SALTS_ONLY:
        return current.salt + clock + flags + bytes(3), previous.salt + number
    return (
        current.key + current.salt + current.key_id.to_bytes(3, "little") + clock + flags,
        previous.key + previous.salt + previous.key_id.to_bytes(3, "little") + bytes(1) + number,
    )


def _odd_row(kind: int) -> tuple[bytes, bytes]:
    hot = bytearray(HOT[kind])
    hot[-4 if kind == SALTS_ONLY else -1] = ODD_FLAG
    return bytes(hot), bytes(COLD[kind])


def _pack_slot(salt: str | None, key: KeyMaterial | None) -> _Slot | None:
    if salt is not None:
        data = _exact(salt, 32)
        return None if data is None or key is not None else _Slot(SALT, data)
    if key is None:
        return _Slot(NOTHING)
    key_bytes, key_salt = _exact(key.key, 24), _exact(key.salt or "", 32)
    if key_bytes is None or key_salt is None or not 0 <= key.id < _KEY_ID_LIMIT:
        return None
    return _Slot(KEY, key_salt, key_bytes, key.id)


def _unpack_slot(kind: int, parts: tuple[Any, ...]) -> tuple[str | None, KeyMaterial | None]:
    """`parts` begins with the salt, in tables with keys with key, salt and key id."""
    if kind == SALT:
        return encode_base64(parts[0] if len(parts[0]) == SALT_LENGTH else parts[1]), None
    if kind == KEY:
        key, salt, key_id = parts[:3]
        return None, KeyMaterial(int.from_bytes(key_id, "little"), encode_base64(key), encode_base64(salt))
    return None, None


def _exact(text: str, length: int) -> bytes | None:
    """The bytes of a text that encoding gives back unchanged, else None."""
    try:
        data = decode_base64(text)
    except ValueError:
        return None
    return data if len(data) == length and encode_base64(data) == text else None


def _assemble(
    rows: int, kind: int, hot: bytes, cold: bytes, odd: list[tuple[int, bytes]], metadata: SaltMetadata
) -> bytes:
    texts = salt_texts(metadata)
    cold_at = HEADER_LENGTH + len(hot)
    odd_at = cold_at + len(cold)
    offset = odd_at + _ODD.size * len(odd)
    index = bytearray()
    for row, line in odd:
        index += _ODD.pack(row, offset, len(line))
        offset += len(line)
    header = _HEADER.pack(MAGIC, rows, kind, HEADER_LENGTH, cold_at, odd_at, len(odd), offset, len(texts))
    return b"".join((header.ljust(HEADER_LENGTH, b"\0"), hot, cold, bytes(index), *(line for _, line in odd), texts))
