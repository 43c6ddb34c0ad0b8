"""Which source a build is made from: commit, time and version (enclave chapter, 8.4)."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.protocol.errors import ConfigurationError

SHORT: Final = 12
CHANGED: Final = "-changed"
_VERSION_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST_VERSION: Final = 64

# Runs a git command line in a folder; gives what it printed, None when it failed or is not installed.
Git = Callable[[Sequence[str], Path], str | None]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`epoch` (seconds) is every file's time in the artifacts; a commit that ends in `-changed` has local edits."""

    commit: str
    epoch: int
    version: str

    @property
    def tag(self) -> str:
        """`<version>.<commit>`, as images are tagged."""
        short = self.commit.removesuffix(CHANGED)[:SHORT]
        return f"{self.version}.{short}{CHANGED if self.commit.endswith(CHANGED) else ''}"


def run_git(arguments: Sequence[str], folder: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={folder.resolve()}", *arguments],  # noqa: S607 - git of the build machine
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def source_facts(root: Path, version: str, environ: Mapping[str, str], git: Git = run_git) -> SourceFacts:
    """The facts of the repository at `root`; SOURCE_DATE_EPOCH prevails over the time of its commit.

    ConfigurationError: a version that is no tag, or neither git nor SOURCE_DATE_EPOCH to take a time from.
    """
    if not version or len(version) > _LONGEST_VERSION or not set(version) <= _VERSION_CHARACTERS:
        raise ConfigurationError(
            f"{version[:80]!r} is no version: up to {_LONGEST_VERSION} letters, digits, '.', '_' and '-'",
            next_step="correct --build-version",
        )
    commit = git(("rev-parse", "HEAD"), root)
    if commit is not None and git(("status", "--porcelain", "--untracked-files=no"), root):
        commit += CHANGED
    given = environ.get("SOURCE_DATE_EPOCH")
    text = given if given is not None else git(("log", "-1", "--format=%ct"), root) if commit else None
    if text is None:
        raise ConfigurationError(
            f"{root} is no git work tree, so nothing says when its source was made",
            next_step="build in a clone, or set SOURCE_DATE_EPOCH to a time in seconds",
        )
    if not (text.isascii() and text.isdigit() and 315_532_800 <= int(text) < 1 << 32):
        raise ConfigurationError(
            "SOURCE_DATE_EPOCH must be a time in seconds, from 1980 to 2106", next_step="correct it, or unset it"
        )
    return SourceFacts(commit or "unknown", int(text), version)
