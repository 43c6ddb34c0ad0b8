"""The one place where bulk work is asked for: in native code where that is built, else in plain Python.

Both engines give the same answers; the native one leaves what is very rare to the reference.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

from uid2.bulk.bucket_list import list_buckets
from uid2.bulk.mapping import MapOptions, MapResult, Shape, map_request
from uid2.bulk.optout_index import OptOutIndex, build_optout_index
from uid2.bulk.optout_view import OptOutView
from uid2.bulk.salt_table import SaltTable, pack_salt_file
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import Environment
from uid2.protocol.salts import SaltMetadata

AUTO: Final = "auto"
NATIVE: Final = "native"
REFERENCE: Final = "reference"
INTERFACE: Final = 2
"""Of the native module: the number rises with every change of a call."""


class Engine(Protocol):
    """All bulk work."""

    @property
    def name(self) -> str: ...

    def map_request(
        self, body: bytes, shape: Shape, salts: SaltTable, optouts: OptOutView, options: MapOptions
    ) -> MapResult:
        """The response of a whole request; MapRequestError says what is wrong with it."""

    def list_buckets(self, salts: SaltTable, since: int) -> bytes:
        """JSON of the buckets updated at or after a time in epoch milliseconds."""

    def last_updated_range(self, salts: SaltTable) -> tuple[int, int]:
        """Least and greatest last update, epoch milliseconds; (0, 0) of an empty table."""

    def pack_salt_file(self, data: bytes, metadata: SaltMetadata) -> bytes:
        """The packed table of a salt file; StoreFormatError names the line that is wrong."""

    def build_optout_index(
        self, files: Sequence[Path], out_path: Path, environment: Environment, indices: Sequence[OptOutIndex] = ()
    ) -> int:
        """Write the index of all entries of log files and all rows of indices; the number of rows.

        StoreFormatError, OSError.
        """

    def open_optouts(self, buffer: bytes | memoryview) -> OptOutIndex:
        """The index in a buffer; StoreFormatError when it is none."""


class ReferenceEngine:
    """In plain Python."""

    name = REFERENCE
    map_request = staticmethod(map_request)
    list_buckets = staticmethod(list_buckets)
    pack_salt_file = staticmethod(pack_salt_file)
    build_optout_index = staticmethod(build_optout_index)

    def last_updated_range(self, salts: SaltTable) -> tuple[int, int]:
        return salts.last_updated_range()

    def open_optouts(self, buffer: bytes | memoryview) -> OptOutIndex:
        return OptOutIndex(buffer)


@cache
def engine_named(name: str) -> Engine:
    """The engine of a name; `auto` is the native one where it is built. ConfigurationError when it is not there."""
    if name not in (AUTO, NATIVE, REFERENCE):
        raise ConfigurationError(
            f"there is no such bulk engine; known are {AUTO}, {NATIVE} and {REFERENCE}",
            next_step="correct bulk_engine or leave it out",
        )
    if name == REFERENCE:
        return ReferenceEngine()
    try:
        found: object = vars(import_module("uid2_native")).get("INTERFACE")
        if found != INTERFACE:
            raise ImportError("it was built from other sources")
    except ImportError as error:
        if name == AUTO:
            return ReferenceEngine()
        raise ConfigurationError(
            f"the native module cannot be used: {error}", next_step="install cargo, then run make native"
        ) from None
    from uid2.bulk.native import NativeEngine

    return NativeEngine()


def best_engine() -> Engine:
    """The native engine where it is built, else the reference."""
    return engine_named(AUTO)
