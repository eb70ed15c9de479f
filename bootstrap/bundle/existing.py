"""A bundle that exists as the source of another: to copy one, or to turn a folder into a file or back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bootstrap.bundle import manifest
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import Progress, open_bundle


@dataclass(frozen=True, slots=True)
class ExistingBundle:
    """The bundle at `path`, a folder or a file. It must be whole; see `open_bundle`."""

    path: Path

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Copy every blob. Raises `BundleError` for a damaged one."""
        bundle = open_bundle(self.path, kubernetes_version=None, listener=progress)
        for listed in bundle.manifest.files:
            progress(f"copying {listed.kind} {listed.name}")
            with bundle.open(listed.sha256) as blob, (folder / manifest.blob(listed.sha256)).open("wb") as copy:
                shutil.copyfileobj(blob, copy, 1024 * 1024)
        return bundle.manifest
