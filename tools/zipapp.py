"""Makes dist/kubestrap.pyz, the command as one file: `python -m tools.zipapp [FILE]`.

It holds the wheel and all that the wheel needs, as installed here, for this version of Python and this kind of machine.
The same contents give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tools import requirements

OUTPUT = requirements.ROOT / "dist" / "kubestrap.pyz"
START = requirements.ROOT / "tools" / "zipapp_start.py"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP file can hold


def contents(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file that stands in site-packages once it is unpacked: its path there, and its bytes."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".data/" not in name:
                yield name, archive.read(name)
    for installed in requirements.needed("verify"):
        for name, path in requirements.files(installed):
            yield name, path.read_bytes()


def make(output: Path) -> None:
    """Write the file, whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        done = subprocess.run(build, cwd=requirements.ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        (wheel,) = Path(folder).glob("*.whl")
        held = dict(sorted(contents(wheel)))
        digest = hashlib.sha256()
        for name, data in held.items():
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        made = {
            "digest": digest.hexdigest(),
            "python": [sys.version_info.major, sys.version_info.minor],
            "platform": sysconfig.get_platform(),
        }
        partial = Path(folder) / output.name
        with partial.open("wb") as file:
            file.write(f"#!/usr/bin/env python{sys.version_info.major}.{sys.version_info.minor}\n".encode())
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                _add(archive, "__main__.py", START.read_bytes())
                _add(archive, "made.json", json.dumps(made).encode())
                for name, data in held.items():
                    _add(archive, f"site-packages/{name}", data)
        partial.chmod(0o755)
        partial.replace(output)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(entry, data)


def main() -> None:
    """Write it, and say where."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    make(output)
    print(output)  # noqa: T201 - its only word


if __name__ == "__main__":
    main()
