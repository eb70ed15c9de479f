"""Files of the operator's own: where they stand, written whole or not at all, and readable by nobody else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PARTIAL = ".partial"


def kubeconfig_path(cluster: str, environment: Mapping[str, str]) -> Path:
    """Say where the kubeconfig of the cluster so named is kept: under XDG_CONFIG_HOME, or ~/.config."""
    base = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "kubestrap" / f"{cluster}.kubeconfig"


def write(path: Path, data: bytes) -> bool:
    """Put `data` at `path`, 0600 from the first byte; make folders above it, 0700. Say whether anything changed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o600:
        return False
    target = path.resolve()  # a link stays a link
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


@contextmanager
def arriving(path: Path, *, replace: bool) -> Iterator[tuple[BinaryIO, Path]]:
    """Have a file, and where it stands meanwhile, that is put at `path` when the block ends without an error.

    It is 0600 from the first byte. What is at `path` already is replaced only with `replace`, or else `FileExistsError`
    is raised. After an error nothing is left; what a killed process left is removed by the next call for that path.
    """
    target = path.resolve()  # a link stays a link
    _sweep(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_PARTIAL)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file, partial
            file.flush()
            os.fsync(file.fileno())
            if replace:
                partial.replace(target)
            else:
                _put(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _put(partial: Path, target: Path) -> None:
    """Name a file anew, unless there is one of that name. Raises `FileExistsError`."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):  # file systems without hard links
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        partial.rename(target)


def _sweep(target: Path) -> None:
    """Remove what nobody writes any more."""
    for left in target.parent.iterdir():
        if not (left.name.startswith(f".{target.name}.") and left.name.endswith(_PARTIAL)):
            continue
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
            left.unlink()
