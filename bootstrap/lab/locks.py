"""Locks between runs on one host. The system frees them when a run ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bootstrap.errors import LabTimedOut

FOLDER = Path("/run/lock")


@contextlib.contextmanager
def locked(path: Path, what: str, *, seconds: float) -> Iterator[int]:
    """Hold the lock on `path` (a folder, or a file that is made) and give its descriptor.

    `what` says what another run is doing meanwhile. Raises `LabTimedOut` after `seconds`.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabTimedOut(
                        f"another run has been {what} for {seconds:g} seconds (it holds the lock on {path}); "
                        "wait for it, or end it"
                    ) from None
                time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)
