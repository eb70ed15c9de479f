"""The start of kubestrap.pyz: unpacks what it holds, once, and goes on from there.

Parts of what it holds are machine code, which cannot be loaded from a ZIP file. They go to a folder of their own below
`${XDG_CACHE_HOME:-~/.cache}/kubestrap/zipapp`, whole or not at all, which may be removed at any time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

HELD = "site-packages/"
_PARTIAL = ".partial"


def unpacked(archive: zipfile.ZipFile, digest: str) -> Path:
    """Give the folder that what `archive` holds is in; unpack it where it is not there yet. Raises `OSError`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base.startswith("/") else Path.home() / ".cache"
    place = cache / "kubestrap" / "zipapp"
    target = place / digest
    if target.is_dir():
        return target
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given up when its process ends; unpacking takes seconds
        for left in place.glob(f"*{_PARTIAL}"):
            shutil.rmtree(left)
        if not target.is_dir():
            partial = place / f"{digest}{_PARTIAL}"
            partial.mkdir(mode=0o700)
            archive.extractall(partial, [name for name in archive.namelist() if name.startswith(HELD)])
            os.sync()  # a name that stands for a whole folder, also after the power was lost
            partial.rename(target)
    return target


def refusal(made: dict[str, Any]) -> str:
    """Say why this Python cannot run it; nothing where it can."""
    mine = [sys.version_info.major, sys.version_info.minor]
    if mine == made["python"] and sysconfig.get_platform() == made["platform"]:
        return ""
    wanted, have = (".".join(map(str, version)) for version in (made["python"], mine))
    return (
        f"this file is made for Python {wanted} on {made['platform']}, and this is Python {have} on "
        f"{sysconfig.get_platform()}: run it by python{wanted}, or install the wheel instead"
    )


def start() -> None:
    """Run the command of this process."""
    with zipfile.ZipFile(sys.argv[0]) as archive:
        made = json.loads(archive.read("made.json"))
        if why := refusal(made):
            sys.exit(f"Error: {why}")
        try:
            folder = unpacked(archive, made["digest"])
        except OSError as error:
            where = error.filename or sys.argv[0]
            sys.exit(
                f"Error: {where}: {error.strerror or error}; set XDG_CACHE_HOME to a folder that can be written to"
            )
    sys.path[0] = str(folder / HELD)
    from bootstrap.cli import main

    main()


if __name__ == "__main__":
    start()
