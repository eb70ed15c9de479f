"""Making a bundle: whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from pathlib import Path

from bootstrap.bundle import cache, catalog, manifest
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import Bundle, BundleError, Progress, open_bundle
from bootstrap.bundle.source import Source
from bootstrap.errors import BootstrapError, UsageError


def build(source: Source, to: Path | None, progress: Progress = lambda _: None) -> Bundle:
    """Make a bundle from `source` at `to`: one file where that ends in `.tar`, else a folder; None is the cache's.

    What stands at `to` is there until the new one is whole, and stays where it has the same contents. A build that
    was killed leaves a hidden folder beside, which the next one removes. Raises `UsageError` where `to` holds
    something else than a bundle, and what the source raises.
    """
    place = (to if to is not None else cache.bundle(catalog.kubernetes_version(), source.platform)).absolute()
    _require_replaceable(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".{place.name}.*.partial"):
            if not Path("/proc", left.suffixes[-2].lstrip(".")).exists():  # nobody works in it any more
                _remove(left)
        work = place.parent / f".{place.name}.{os.getpid()}.partial"
        _remove(work)
        try:
            (work / manifest.BLOBS).mkdir(parents=True)
            made = source.fill(work, progress)
            (work / manifest.NAME).write_bytes(manifest.dump(made))
            if _same(place, made):
                progress(f"{place}: unchanged")
            elif place.suffix == ".tar":
                _pack(work, place)
            else:
                _swap(work, place)
        finally:
            _remove(work)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BootstrapError(
                f"no space is left for {error.filename or place}; a bundle and its build need 12 GB"
            ) from error
        raise BootstrapError(f"{error.filename or place}: {error.strerror}") from error
    return open_bundle(place, kubernetes_version=None, platform=made.platform)


def _require_replaceable(place: Path) -> None:
    if place.is_dir() and any(place.iterdir()) and not (place / manifest.NAME).is_file():
        raise UsageError(f"{place} is a folder with something else in it; name one that is new, empty or a bundle")
    if place.is_dir() and place.suffix == ".tar":
        raise UsageError(f"{place} is a folder; a name that ends in .tar is for a bundle in one file")
    if place.exists() and not place.is_dir() and place.suffix != ".tar":
        raise UsageError(f"{place} is a file; a bundle in one file has a name that ends in .tar")


def _same(place: Path, made: Manifest) -> bool:
    """Say whether a whole bundle with these contents stands there already."""
    if not place.exists():
        return False
    try:
        return open_bundle(place, kubernetes_version=None, platform=made.platform).manifest == made
    except BundleError:
        return False


def _pack(work: Path, place: Path) -> None:
    packed = work / "packed"
    with tarfile.open(packed, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in (work / manifest.NAME, *sorted((work / manifest.BLOBS).iterdir())):
            info = tarfile.TarInfo(str(file.relative_to(work)))
            info.size, info.mode = file.stat().st_size, 0o644
            with file.open("rb") as data:
                tar.addfile(info, data)
    packed.replace(place)


def _swap(work: Path, place: Path) -> None:
    if place.exists():
        old = place.parent / f".{place.name}.old.{os.getpid()}.partial"
        place.rename(old)
        work.rename(place)
        _remove(old)
    else:
        work.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
