"""What is counted and shown of opt-outs: refreshes, transfers, the index (operator chapter, 14.5)."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, final

from uid2.protocol.optout_log import OptOutFileKind
from uid2.service.metrics import Metrics
from uid2.stores.optout_files import Transfers

STORE: Final = "optout"
INDEXED: Final = {OptOutFileKind.DELTA: "deltas", OptOutFileKind.PARTITION: "partitions"}
_BEGIN_AT_ZERO: Final = (
    "uid2_cloud_refreshed_total",
    "uid2_cloud_refresh_skipped_total",
    "uid2_cloud_refresh_failures_total",
    "uid2_cloud_downloaded_total",
    "uid2_cloud_download_failures_total",
    # An operator fetches files and uploads none.
    "uid2_cloud_uploaded_total",
    "uid2_cloud_upload_failures_total",
)


@final
class OptOutMetrics(Transfers):
    """Told of everything by `OptOutFiles` and `OptOutData`; safe to call from any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        for name in _BEGIN_AT_ZERO:
            metrics.count(name, 0, store=STORE)
        for kind in INDEXED.values():
            metrics.count(f"uid2_optout_{kind}_indexed_total", 0)
        for name in ("uid2_cloud_downloading", "uid2_cloud_uploading"):
            metrics.gauge(name, 0, store=STORE)
        # The packed index is exact and needs no bloom filter.
        for name in ("uid2_optout_bloomfilter_size", "uid2_optout_bloomfilter_max", "uid2_operator_optout_old_count"):
            metrics.gauge(name, 0)

    def pending(self, files: int) -> None:
        self._metrics.gauge("uid2_cloud_downloading", files, store=STORE)

    def fetched(self, seconds: float) -> None:
        self._metrics.count("uid2_cloud_downloaded_total", store=STORE)
        self._metrics.observe("uid2_cloud_download_duration_seconds", seconds, store_name=STORE, status="success")

    def failed(self, seconds: float) -> None:
        self._metrics.count("uid2_cloud_download_failures_total", store=STORE)
        self._metrics.observe("uid2_cloud_download_duration_seconds", seconds, store_name=STORE, status="failure")

    def refreshed(self) -> None:
        self._metrics.count("uid2_cloud_refreshed_total", store=STORE)
        self._metrics.gauge("uid2_cloud_downloaded_consecutive_refresh_failures", 0, store=STORE)

    def not_refreshed(self) -> None:
        """A refresh failed; the loaded opt-outs stay."""
        self._metrics.count("uid2_cloud_refresh_failures_total", store=STORE)
        self._metrics.gauge("uid2_cloud_downloaded_consecutive_refresh_failures", 1, store=STORE)
        # What was still to be fetched is asked for anew by the next refresh.
        self.pending(0)

    def skipped(self) -> None:
        """A refresh was due while one ran."""
        self._metrics.count("uid2_cloud_refresh_skipped_total", store=STORE)

    def indexed(self, files: Counter[OptOutFileKind], old_hashes: int, seconds: float) -> None:
        """The index was built because of these new files; so many of its hashes are old."""
        self._metrics.count("uid2_optout_index_updated_total")
        for kind, name in INDEXED.items():
            self._metrics.count(f"uid2_optout_{name}_indexed_total", files[kind])
        file_type = INDEXED[OptOutFileKind.PARTITION if files[OptOutFileKind.PARTITION] else OptOutFileKind.DELTA]
        self._metrics.observe("uid2_optout_processing_seconds", seconds, file_type=file_type)
        self._metrics.gauge("uid2_operator_optout_old_count", old_hashes)

    def sample(self, status: Mapping[str, object], tail_answered_seconds_ago: object) -> None:
        """The gauges of the moment, from the member `optouts` of /ops/status."""
        ages = {
            "uid2_operator_optout_file_age_seconds": status["newest_file_age_seconds"],
            "uid2_operator_optout_refresh_age_seconds": status["refreshed_seconds_ago"],
            "uid2_operator_optout_tail_age_seconds": tail_answered_seconds_ago,
        }
        for name, age in ages.items():
            self._metrics.gauge(name, age if isinstance(age, int) else -1)
        for kind in INDEXED.values():
            number = status[kind]
            assert isinstance(number, int)
            self._metrics.gauge("uid2_operator_optout_files", number, file_type=kind)
