"""The native engine: `uid2_native` (rust/native) behind the interface of `uid2.bulk.engine`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, final

import uid2_native

from uid2.bulk import bucket_list, mapping, salt_table
from uid2.bulk.mapping import KINDS, FieldCounts, MapOptions, MapRequestError, MapResult, Problem, Shape
from uid2.bulk.optout_index import OptOutIndex
from uid2.bulk.optout_view import OptOutView
from uid2.bulk.salt_table import SaltTable
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, FirstLevelHash, IdentityType, RawUidVersion
from uid2.protocol.optout_log import check_size
from uid2.protocol.salts import SaltMetadata

VERSIONS: Final = (RawUidVersion.V2, RawUidVersion.V3, RawUidVersion.V4)


@final
class NativeOptOutIndex(OptOutIndex):
    """The same look-ups in native code."""

    def __init__(self, buffer: bytes | memoryview) -> None:
        super().__init__(buffer)
        try:
            self.handle = self._native = uid2_native.OptOutIndex(self.buffer)
        except ValueError:
            raise _damaged() from None

    @classmethod
    def of_rows(cls, rows: bytes, environment: Environment) -> OptOutIndex:
        return cls(uid2_native.pack_optout_rows(rows, environment))

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        return self._native.timestamp_of_hash(flh)

    def timestamps_of_hashes(self, hashes: Sequence[FirstLevelHash]) -> list[int]:
        return self._native.timestamps_of_hashes(b"".join(hashes))

    def hashes_before(self, seconds: int) -> int:
        return self._native.hashes_before(max(0, seconds))

    def missing_rows(self, rows: bytes | memoryview, tolerance: int) -> bytes:
        return self._native.missing_rows(bytes(rows), tolerance)

    def timestamp_of_id(self, raw_uid: str) -> int | None:
        try:
            return self._native.timestamp_of_id(_ascii(raw_uid))
        except ValueError:
            raise _damaged() from None

    def timestamps_of_ids(self, raw_uids: Sequence[str]) -> list[int | None]:
        try:
            return self._native.timestamps_of_ids(list(map(_ascii, raw_uids)))
        except ValueError:
            raise _damaged() from None


@final
class NativeEngine:
    """In native code, without the interpreter's lock."""

    name = "native"

    def map_request(
        self, body: bytes, shape: Shape, salts: SaltTable, optouts: OptOutView, options: MapOptions
    ) -> MapResult:
        answer, problem = uid2_native.map_request(
            body,
            shape is Shape.V3,
            _salts(salts),
            [_optouts(index) for index in optouts.indices if index.size],
            optouts.overlay.fresh_hashes,
            _named(options.always_opted_out),
            _named(options.never_opted_out),
            options.scope,
            options.environment,
            options.identity_v3,
            options.phone_support,
            options.now,
        )
        if problem is not None:
            kind, field, position = problem
            raise MapRequestError(Problem(kind), field, position)
        if answer is None:
            return mapping.map_request(body, shape, salts, optouts, options)
        document, counts, versions = answer
        return MapResult(
            document,
            {kind: FieldCounts(*row) for kind, row in zip(KINDS, counts, strict=True)},
            dict(zip(VERSIONS, versions, strict=True)),
        )

    def list_buckets(self, salts: SaltTable, since: int) -> bytes:
        listed = _salts(salts).list_buckets(since)
        return bucket_list.list_buckets(salts, since) if listed is None else listed

    def last_updated_range(self, salts: SaltTable) -> tuple[int, int]:
        return _salts(salts).last_updated_range() or salts.last_updated_range()

    def pack_salt_file(self, data: bytes, metadata: SaltMetadata) -> bytes:
        table, wrong = uid2_native.pack_salts(data, salt_table.salt_texts(metadata))
        if table is not None:
            return table
        salt_table.check_salt_line(data, wrong)
        return salt_table.pack_salt_file(data, metadata)

    def build_optout_index(
        self, files: Sequence[Path], out_path: Path, environment: Environment, indices: Sequence[OptOutIndex] = ()
    ) -> int:
        known = [_optouts(index) for index in indices]
        rows, wrong = uid2_native.build_optout_index(list(files), known, out_path, environment)
        if wrong is not None:
            file, size = wrong
            try:
                check_size(size)
            except StoreFormatError as error:
                raise error.in_file(files[file].name) from None
        return rows

    def open_optouts(self, buffer: bytes | memoryview) -> OptOutIndex:
        return NativeOptOutIndex(buffer)


def _ascii(raw_uid: str) -> str:
    # Not every text has a UTF-8 form, and no raw UID holds more than ASCII.
    return raw_uid if raw_uid.isascii() else ""


def _damaged() -> StoreFormatError:
    return StoreFormatError("the packed opt-out index is damaged", next_step="load the opt-outs again")


def _salts(table: SaltTable) -> uid2_native.SaltTable:
    handle = table.handle
    if not isinstance(handle, uid2_native.SaltTable):
        handle = uid2_native.SaltTable(table.buffer, table.first_level_salt, table.id_prefix, table.id_secret)
        table.handle = handle
    return handle


def _optouts(index: OptOutIndex) -> uid2_native.OptOutIndex:
    handle = index.handle
    if not isinstance(handle, uid2_native.OptOutIndex):
        handle = index.handle = uid2_native.OptOutIndex(index.buffer)
    return handle


def _named(identities: Iterable[tuple[IdentityType, FirstLevelHash]]) -> bytes:
    return b"".join(bytes((identity_type,)) + flh for identity_type, flh in identities)
