"""Where a bundle's files come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bootstrap.bundle import manifest
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import Progress
from bootstrap.errors import BootstrapError


class Source(Protocol):
    """Something that a bundle can be made from. Equal inputs give equal digests."""

    @property
    def platform(self) -> str:
        """What its programs run on (`linux/amd64`)."""

    def unreachable(self) -> BootstrapError | None:
        """Say, after one look, why nothing can be had from it now; None where something can."""

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Put every blob into the bundle `folder`, and give the manifest that lists them."""


class NoSourceAnswers(BootstrapError):
    """No source of a bundle can be reached. Carries the reason of each."""

    exit_code = 5

    def __init__(self, reasons: Sequence[BootstrapError]) -> None:
        lines = [f"  {reason}" for reason in reasons]
        super().__init__("\n".join(["a bundle cannot be had from anywhere:", *lines]))
        self.reasons = tuple(reasons)


def choose(sources: Sequence[Source], progress: Progress) -> Source:
    """Give the first of `sources` that answers. Raises `NoSourceAnswers`."""
    reasons = []
    for source in sources:
        reason = source.unreachable()
        if reason is None:
            return source
        progress(str(reason))
        reasons.append(reason)
    raise NoSourceAnswers(reasons)


def take(folder: Path, file: Path) -> tuple[str, int]:
    """Make `file`, which is on the same disk, a blob of the bundle `folder`, and give its digest and size."""
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    size = file.stat().st_size
    file.rename(folder / manifest.blob(digest))
    return digest, size
