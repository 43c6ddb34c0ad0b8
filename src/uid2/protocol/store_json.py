"""Reading and writing the JSON arrays of the store files (core chapter, section 9).

`read_records` gives one `RecordReader` per array element. Every complaint is a `StoreFormatError` that names the
record (index from 0) and the field; the file's name is filled in by whoever opened it. Values never enter the text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, final

import msgspec

from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Role
from uid2.protocol.json_text import parse_value

R = TypeVar("R")
INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
_REPAIR: Final = "repair the record in the store, or restore the previous version of the file"


def parse_json(data: bytes) -> Any:
    """Any JSON document; StoreFormatError when it is none."""
    try:
        return parse_value(data)
    except ValueError as error:
        raise StoreFormatError(str(error), next_step="restore the previous version of the file") from None


@final
class RecordReader:
    """Typed access to the members of one object. A member that is null counts as missing."""

    __slots__ = ("members", "record")

    def __init__(self, members: Mapping[str, Any], record: str = "") -> None:
        self.members = members
        self.record = record

    def wrong(self, field: str, message: str) -> StoreFormatError:
        return StoreFormatError(message, record=self.record, field=field, next_step=_REPAIR)

    def raw(self, field: str) -> Any:
        return self.members.get(field)

    def integer(self, field: str, default: int | None = None, limits: tuple[int, int] = INT32) -> int:
        """A whole number within `limits`; missing: `default`, or refused when that is None."""
        value = self.members.get(field)
        if value is None:
            if default is None:
                raise self.wrong(field, "required member is missing")
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(field, "not a whole number")
        if not limits[0] <= value <= limits[1]:
            raise self.wrong(field, "number out of range")
        return value

    def long(self, field: str, default: int | None = None) -> int:
        return self.integer(field, default, INT64)

    def optional_integer(self, field: str) -> int | None:
        return None if self.members.get(field) is None else self.integer(field)

    def text(self, field: str, default: str | None = None) -> str:
        """A string; missing: `default`, or refused when that is None."""
        value = self.optional_text(field)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(field, "required member is missing")
        return default

    def optional_text(self, field: str) -> str | None:
        value = self.members.get(field)
        if value is not None and not isinstance(value, str):
            raise self.wrong(field, "not a string")
        return value

    def boolean(self, field: str, default: bool | None = None) -> bool:
        value = self.optional_boolean(field)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(field, "required member is missing")
        return default

    def optional_boolean(self, field: str) -> bool | None:
        value = self.members.get(field)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(field, "neither true nor false")
        return value

    def items(self, field: str, kind: type[R], *, required: bool = False) -> tuple[R, ...] | None:
        """An array whose elements are all of `kind`; nulls inside are dropped. Missing: None, unless `required`."""
        value = self.members.get(field)
        if value is None:
            if required:
                raise self.wrong(field, "required member is missing")
            return None
        if not isinstance(value, list):
            raise self.wrong(field, "not an array")
        present = [item for item in value if item is not None]
        for item in present:
            if not isinstance(item, kind) or isinstance(item, bool):
                raise self.wrong(field, f"array element of the wrong type, expected {kind.__name__}")
        return tuple(present)

    def decoded(self, field: str, length: int | None = None) -> bytes:
        """The bytes of base64 text, of exactly `length` bytes when given, else at least one."""
        text = self.text(field)
        try:
            data = decode_base64(text)
        except ValueError:
            raise self.wrong(field, "not valid base64") from None
        if len(data) != length if length is not None else not data:
            raise self.wrong(field, f"expected base64 of {length or 'one or more'} bytes")
        return data

    def named_roles(self, field: str, *, required: bool) -> frozenset[Role]:
        """Role names in any letter case; unknown ones become UNKNOWN."""
        return frozenset(map(Role.parse, self.items(field, str, required=required) or ()))

    def exact_roles(self, field: str) -> frozenset[Role]:
        """Role names in upper case; an unknown one refuses the file."""
        names = self.items(field, str, required=True) or ()
        for name in names:
            if name not in Role.__members__:
                raise self.wrong(field, "unknown role name")
        return frozenset(Role(name) for name in names)


def read_records(data: bytes, build: Callable[[RecordReader], R]) -> tuple[R, ...]:
    """`build` applied to every object of a JSON array."""
    document = parse_json(data)
    if not isinstance(document, list):
        raise StoreFormatError("not a JSON array", next_step="restore the previous version of the file")
    return read_items(document, build)


def read_items(document: Iterable[Any], build: Callable[[RecordReader], R]) -> tuple[R, ...]:
    """`build` applied to every object of an array that is already parsed."""
    found = []
    for index, members in enumerate(document):
        if not isinstance(members, dict):
            raise StoreFormatError("not a JSON object", record=str(index), next_step=_REPAIR)
        found.append(build(RecordReader(members, str(index))))
    return tuple(found)


def check_unique(records: Iterable[R], key: Callable[[R], object], field: str) -> None:
    """StoreFormatError naming the second record of the first pair that shares a key."""
    seen: set[object] = set()
    for index, record in enumerate(records):
        value = key(record)
        if value in seen:
            raise StoreFormatError("duplicate value", record=str(index), field=field, next_step=_REPAIR)
        seen.add(value)


def write_records(records: Iterable[Mapping[str, object]]) -> bytes:
    """Indented JSON array, members in the order given."""
    return write_json(list(records))


def write_json(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def role_names(roles: Iterable[Role]) -> Sequence[str]:
    """Role names in enumeration order."""
    held = set(roles)
    return [role.value for role in Role if role in held]
