"""Where a bundle's files come from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import Progress


class Source(Protocol):
    """Something that a bundle can be made from. Equal inputs give equal digests."""

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Put every blob into the bundle `folder`, and give the manifest that lists them."""
