"""Opening a bundle: a folder, or one file read in place. Damaged ones are refused, naming the file."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from bootstrap.bundle import cache, catalog, manifest
from bootstrap.bundle.manifest import Manifest
from bootstrap.errors import ConfigError
from bootstrap.site import Contents

Progress = Callable[[str], None]
"""Called with each line that tells a person how far the work is."""

Stamp = tuple[int, ...]
"""What changes when a file does, though it is not read: size, times, inode, device, and the place in a tar."""


class BundleError(ConfigError):
    """A bundle cannot be used. Carries every problem found."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        lines = [f"  {problem}" for problem in problems]
        fix = "make it again with `kubestrap bundle build`, or copy it again from where it came"
        super().__init__("\n".join([f"the bundle {path} cannot be used; {fix}:", *lines]))
        self.path = path
        self.problems = tuple(problems)


class Store(Protocol):
    """The named files of a bundle, however they are kept."""

    def names(self) -> Sequence[str]:
        """List the files: `manifest.json` and `blobs/sha256/...`."""

    def stamp(self, name: str) -> Stamp | None:
        """Give the file's stamp, its size first; None where there is no such file."""

    def open(self, name: str) -> io.BufferedReader:
        """Open the file for reading."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A bundle as a folder."""

    path: Path

    def names(self) -> Sequence[str]:
        """List the files."""
        blobs = self.path / manifest.BLOBS
        listed = sorted(f"{manifest.BLOBS}/{entry.name}" for entry in blobs.iterdir()) if blobs.is_dir() else []
        return [manifest.NAME, *listed] if (self.path / manifest.NAME).is_file() else listed

    def stamp(self, name: str) -> Stamp | None:
        """Give the file's stamp."""
        path = self.path / name
        return _stamp(path.stat()) if path.is_file() else None

    def open(self, name: str) -> io.BufferedReader:
        """Open the file."""
        return (self.path / name).open("rb")


@dataclass(frozen=True, slots=True)
class Tar:
    """A bundle as an uncompressed tar, read in place. Raises `BundleError` for a file that is not one."""

    path: Path
    members: Mapping[str, tuple[int, int]] = field(init=False)  # offset and size

    def __post_init__(self) -> None:
        """Read where each file is."""
        try:
            with tarfile.open(self.path, "r:") as tar:
                members = {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}
        except tarfile.TarError as error:
            raise BundleError(self.path, [f"{self.path.name} is not a whole, uncompressed tar ({error})"]) from error
        object.__setattr__(self, "members", members)

    def names(self) -> Sequence[str]:
        """List the files."""
        return list(self.members)

    def stamp(self, name: str) -> Stamp | None:
        """Give the file's stamp. One that the end of the tar cuts off has the size of what is there."""
        if name not in self.members:
            return None
        offset, size = self.members[name]
        whole = self.path.stat()
        return (max(0, min(size, whole.st_size - offset)), offset, *_stamp(whole))

    def open(self, name: str) -> io.BufferedReader:
        """Open the file."""
        offset, size = self.members[name]
        return io.BufferedReader(_Slice(self.path, offset, size), 1024 * 1024)


class _Slice(io.RawIOBase):
    """The bytes of a file from `offset` on, `size` of them."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._position))
        data = os.pread(self._file.fileno(), wanted, self._offset + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were all there and whole when it was opened."""

    path: Path
    manifest: Manifest
    store: Store

    @property
    def contents(self) -> Contents:
        """What it holds."""
        return self.manifest.contents

    def open(self, digest: str) -> BinaryIO:
        """Open the blob `digest` (hex SHA-256) for reading; threads may read the same one. Raises `KeyError`."""
        if all(digest != listed.sha256 for listed in self.manifest.files):
            raise KeyError(digest)
        return self.store.open(manifest.blob(digest))

    def verify(self, listener: Progress | None = None) -> None:
        """Read every file and compare it with the manifest, whatever is remembered of earlier times.

        Raises `BundleError` with all problems, an unlisted file among them.
        """
        known = {manifest.NAME, *(manifest.blob(listed.sha256) for listed in self.manifest.files)}
        extra = [f"{name}: the manifest does not list it" for name in self.store.names() if name not in known]
        problems = [*_sizes(self), *_digests(self, remembered={}, listener=listener), *extra]
        if problems:
            raise BundleError(self.path, problems)


def open_bundle(
    path: Path | None,
    *,
    kubernetes_version: str | None,
    platform: str | None = catalog.PLATFORM,
    listener: Progress | None = None,
) -> Bundle:
    """Open the bundle at `path` (folder or file), or the one that `kubestrap bundle build` leaves in the cache.

    Every file it lists is there, of the right size and with the right digest; a file is read for that only where it
    is not known that it has not changed since it was read last. `kubernetes_version` (without v) and `platform` must
    be the bundle's; None takes any. Raises `ConfigError` where there is no bundle, and `BundleError`.
    """
    version, system = kubernetes_version or catalog.kubernetes_version(), platform or catalog.PLATFORM
    where = path if path is not None else cache.bundle(version, system)
    if not where.exists():
        wanted = f" of Kubernetes {kubernetes_version} for {system}" if kubernetes_version else ""
        raise ConfigError(
            f"{where}: there is no bundle{wanted}; make it with `kubestrap bundle create`, or `kubestrap bundle build`"
        )
    try:
        store: Store = Folder(where) if where.is_dir() else Tar(where)
        bundle = Bundle(where, _manifest(where, store), store)
        problems = _mismatches(bundle, kubernetes_version, platform) or _sizes(bundle)
        problems = problems or _digests(bundle, cache.recall(where), listener)
    except OSError as error:
        raise BundleError(where, [f"{error.filename or where}: {error.strerror}"]) from error
    if problems:
        raise BundleError(where, problems)
    return bundle


def _manifest(path: Path, store: Store) -> Manifest:
    stamp = store.stamp(manifest.NAME)
    if stamp is None:
        raise BundleError(path, [f"{manifest.NAME} is missing"])
    if stamp[0] > manifest.LARGEST_BYTES:
        raise BundleError(path, [f"{manifest.NAME} has {stamp[0]} bytes, more than any bundle needs"])
    with store.open(manifest.NAME) as file:
        data = file.read()
    try:
        return manifest.parse(data)
    except ValueError as error:
        raise BundleError(path, [f"{manifest.NAME}: {line}" for line in str(error).splitlines()]) from error


def _mismatches(bundle: Bundle, kubernetes_version: str | None, platform: str | None) -> list[str]:
    found = []
    own = bundle.manifest
    if kubernetes_version is not None and own.kubernetes_version != kubernetes_version:
        found.append(f"it holds Kubernetes {own.kubernetes_version}; {kubernetes_version} is asked for")
    if platform is not None and own.platform != platform:
        found.append(f"it is for {own.platform}; {platform} is asked for")
    return found


def _sizes(bundle: Bundle) -> list[str]:
    found = []
    for listed in bundle.manifest.files:
        name = manifest.blob(listed.sha256)
        stamp = bundle.store.stamp(name)
        if stamp is None:
            found.append(f"{name} ({listed.kind} {listed.name}) is missing")
        elif stamp[0] != listed.size:
            found.append(f"{name} ({listed.kind} {listed.name}) has {stamp[0]} bytes, not {listed.size}")
    return found


def _digests(bundle: Bundle, remembered: Mapping[str, Stamp], listener: Progress | None) -> list[str]:
    found = []
    known: dict[str, Stamp] = {}
    for listed in bundle.manifest.files:
        name = manifest.blob(listed.sha256)
        stamp = bundle.store.stamp(name)
        if stamp is None or stamp[0] != listed.size or listed.sha256 in known:
            continue
        if remembered.get(listed.sha256) != stamp:
            if listener is not None:
                listener(f"checking {listed.kind} {listed.name} ({listed.size / 1e6:.0f} MB)")
            with bundle.store.open(name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != listed.sha256:
                found.append(f"{name} ({listed.kind} {listed.name}) is damaged or altered: it has another digest")
                continue
        known[listed.sha256] = stamp
    if known != remembered:
        cache.remember(bundle.path, known)
    return found


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
