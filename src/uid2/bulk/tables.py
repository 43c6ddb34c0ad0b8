"""The packed tables in one place."""

from uid2.bulk.optout_index import OptOutIndex, build_optout_index, empty_index
from uid2.bulk.optout_view import OptOutOverlay, OptOutView
from uid2.bulk.salt_table import SaltTable, pack_salts

__all__ = [
    "OptOutIndex",
    "OptOutOverlay",
    "OptOutView",
    "SaltTable",
    "build_optout_index",
    "empty_index",
    "pack_salts",
]
