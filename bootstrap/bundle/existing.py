"""A bundle that exists as the source of another: to copy one, or to turn a folder into a file or back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bootstrap.bundle import manifest
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import Bundle, Progress, open_bundle


@dataclass(frozen=True, slots=True)
class ExistingBundle:
    """The bundle at `path`, a folder or a file. It must be whole; see `open_bundle`."""

    path: Path

    @property
    def platform(self) -> str:
        """Its platform. Raises `BundleError` for a damaged one."""
        return self._open().manifest.platform

    def unreachable(self) -> None:
        """Say that it is at hand."""

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Copy every blob. Raises `BundleError` for a damaged one."""
        bundle = self._open(progress)
        for listed in bundle.manifest.files:
            progress(f"copying {listed.kind} {listed.name}")
            with bundle.open(listed.sha256) as blob, (folder / manifest.blob(listed.sha256)).open("wb") as copy:
                shutil.copyfileobj(blob, copy, 1024 * 1024)
        return bundle.manifest

    def _open(self, progress: Progress | None = None) -> Bundle:
        return open_bundle(self.path, kubernetes_version=None, platform=None, listener=progress)
