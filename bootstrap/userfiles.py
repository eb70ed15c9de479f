"""Files of the operator's own: where they stand, written whole or not at all, and readable by nobody else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


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
