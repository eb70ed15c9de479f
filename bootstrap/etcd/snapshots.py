"""Snapshots of etcd: streamed from a member to a file of the operator's, and checked by the hash that etcd adds.

A snapshot is etcd's database (bbolt), and the SHA-256 of that. It comes as etcd's gateway gives it, JSON lines with the
bytes in base64, so that nothing is ever written on the machine. It holds all of the cluster, its Secrets too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bootstrap import userfiles
from bootstrap.errors import EtcdRefused, SnapshotRefused, UsageError
from bootstrap.etcd import asking
from bootstrap.transport.base import Host

SECONDS = 3600.0
"""The limit of a snapshot on its way."""
_CHUNK = 1024 * 1024
_DIGEST = 32
_SECTOR = 512  # databases are whole pages, so what is left over of sectors is the hash
_MAGIC_AT = 16
_MAGIC = bytes.fromhex("edda0ced")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that is whole. `size` is the file's in bytes, `database` that of the database in it."""

    path: str
    size: int
    database: int
    sha256: str


def save(host: Host, path: Path, *, replace: bool, seconds: float = SECONDS) -> Snapshot:
    """Bring a snapshot of the member on `host` to `path`: whole, checked, 0600 from the first byte, or not at all.

    A file that is there already stays, unless `replace`. Raises `UsageError` for such a one, `EtcdRefused` for a stream
    that is cut short or damaged, and as `asking.stream` does.
    """
    require_free(path, replace=replace)
    try:
        with userfiles.arriving(path, replace=replace) as (file, partial):
            arrival = Arrival(host.name, file)
            asking.stream(host, "/v3/maintenance/snapshot", arrival, seconds=seconds)
            arrival.require_whole()
            file.flush()
            try:
                seen = check(partial)
            except SnapshotRefused as error:
                what = str(error).removeprefix(f"{error.path}: ")
                raise EtcdRefused(host.name, f"the snapshot did not arrive whole: {what}. Save it again") from error
            if seen.database != arrival.total:
                raise _cut_short(host.name, seen.database, arrival.total)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
    return Snapshot(str(path), seen.size, seen.database, seen.sha256)


def require_free(path: Path, *, replace: bool) -> None:
    """Raise `UsageError` where no snapshot may be put at `path`."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} is not there: make it first")
    if path.exists() and not replace:
        raise _taken(path)


class Arrival:
    """Takes the lines of the stream, and writes what they hold. `total` is how large the database is to be."""

    def __init__(self, host: str, file: BinaryIO) -> None:
        self._host = host
        self._file = file
        self.total = 0
        self.written = 0

    def __call__(self, line: bytes) -> None:
        """Take one line. Raises `EtcdRefused` where it tells of an error, or is none of etcd's."""
        if not line.strip():
            return
        try:
            answer = json.loads(line)
            if "error" in answer:
                message = answer["error"].get("message", "it does not say why")
                raise EtcdRefused(self._host, f"etcd stopped sending the snapshot: {message}")
            blob = base64.b64decode(answer["result"].get("blob", ""), validate=True)
            left = int(answer["result"].get("remaining_bytes", 0))
        except (ValueError, KeyError, AttributeError, TypeError, binascii.Error) as error:
            raise EtcdRefused(self._host, "the snapshot arrives damaged: a line of it is none of etcd's") from error
        if not self.written:
            self.total = left + len(blob)
        self._file.write(blob)
        self.written += len(blob)

    def require_whole(self) -> None:
        """Raise `EtcdRefused` unless all has come, with the hash at its end."""
        if not self.total or self.written != self.total + _DIGEST:
            raise _cut_short(self._host, self.written, self.total + _DIGEST)


def check(path: Path) -> Snapshot:
    """Read the snapshot at `path`, and check it by its own hash. Raises `SnapshotRefused`, `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(_MAGIC_AT + len(_MAGIC))
        if head[_MAGIC_AT:] != _MAGIC:
            raise SnapshotRefused(str(path), "it is no database of etcd, but something else")
        if size % _SECTOR == 0:
            raise SnapshotRefused(
                str(path),
                "it has no hash at its end: it was copied from a member's data folder, or cut short. Use one that "
                "`kubestrap etcd snapshot save` or `etcdctl snapshot save` made",
            )
        if size % _SECTOR != _DIGEST:
            raise SnapshotRefused(str(path), f"it is cut short, or something was added ({size} bytes): take another")
        file.seek(0)
        left = size - _DIGEST
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise SnapshotRefused(str(path), "it became shorter while it was read")
            digest.update(data)
            left -= len(data)
        if file.read() != digest.digest():
            raise SnapshotRefused(
                str(path), "it is damaged: its contents do not have the SHA-256 at its end: take another"
            )
    return Snapshot(str(path), size, size - _DIGEST, digest.hexdigest())


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path} is there already: give another name, or --force to replace it")


def _cut_short(host: str, came: int, total: int) -> EtcdRefused:
    return EtcdRefused(host, f"the snapshot was cut short: {came} of {total} bytes came. Save it again")
