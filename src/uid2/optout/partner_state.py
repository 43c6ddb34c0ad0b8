"""How far a partner has been told: two texts in the bucket, which the reference reads too (opt-out chapter, 7.4).

    <folder>sender-state/<partner>_timestamp.txt    every delta named before this time, epoch seconds, is sent
    <folder>sender-state/<partner>_processed.txt    paths of sent deltas named later, one to a line

Only the last part of a path counts: it names the delta wherever it was read from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from uid2.optout.bucket import Bucket
from uid2.optout.listing import ListedFile
from uid2.protocol.optout_log import OptOutFileKind, OptOutFileName

LARGEST: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class SendState:
    """`sent` holds file names."""

    before: int = 0
    sent: frozenset[str] = frozenset()

    def waiting(self, files: Iterable[ListedFile]) -> list[ListedFile]:
        """The deltas that the partner has not been told of, oldest first."""
        return [
            file
            for file in files
            if file.kind is OptOutFileKind.DELTA and file.created >= self.before and _base(file.path) not in self.sent
        ]

    def with_sent(self, file: ListedFile, settled_before: int, files: Iterable[ListedFile]) -> "SendState":
        """After one more delta. No delta named before `settled_before` can still turn up."""
        sent = {*self.sent, _base(file.path)}
        missing = [other.created for other in self.waiting(files) if _base(other.path) not in sent]
        before = max(self.before, min((settled_before, *missing)))
        return SendState(before, frozenset(name for name in sent if _created(name) >= before))


@final
class PartnerStates:
    """Calls block. StoreUnavailableError."""

    def __init__(self, bucket: Bucket, folder: str, shown_folder: str) -> None:
        """`shown_folder` is what stands before the names in the list of sent deltas."""
        self._bucket = bucket
        self._folder = f"{folder}sender-state/"
        self._shown = shown_folder

    def read(self, partner: str) -> SendState:
        """From the start where nothing is known: telling twice is allowed, never telling is not."""
        listed = set(self._bucket.list(self._folder))
        times, names = self._paths(partner)
        before = self._bucket.read(times, LARGEST).decode("ascii", "replace").strip() if times in listed else ""
        sent = self._bucket.read(names, LARGEST).decode("utf-8", "replace").split("\n") if names in listed else []
        known = before.isdigit() and len(before) <= 18
        return SendState(int(before) if known else 0, frozenset(_base(line) for line in sent if line))

    def write(self, partner: str, state: SendState) -> None:
        """A crash between the two writes leads to repetitions, whichever is first."""
        times, names = self._paths(partner)
        self._bucket.put(names, "\n".join(self._shown + name for name in sorted(state.sent)).encode())
        self._bucket.put(times, str(state.before).encode())

    def _paths(self, partner: str) -> tuple[str, str]:
        # A partner's name is free text: nothing in it may lead out of the folder.
        safe = partner.replace("/", "_").replace("\\", "_")
        return f"{self._folder}{safe}_timestamp.txt", f"{self._folder}{safe}_processed.txt"


def _base(path: str) -> str:
    return path.strip().rsplit("/", 1)[-1]


def _created(name: str) -> int:
    found = OptOutFileName.parse(name)
    return 0 if found is None or found.created is None else found.created
