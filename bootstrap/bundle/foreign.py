"""Debian's packages for another kind of processor: fetched with apt, checked by it, unpacked, and never installed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.bundle import cache
from bootstrap.bundle.reader import Progress
from bootstrap.errors import BootstrapError

TRIPLETS = {"arm64": "aarch64-linux-gnu"}
"""GNU's name of each kind of processor, by Debian's and Go's, which for these are the same."""
TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "readelf": "binutils"}
"""The programs that this needs, and the Debian package of each."""
_SECONDS = 900
_RELEASE = Path("/etc/debian_version")
_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(.+)\]")
_INTERPRETER = re.compile(r"Requesting program interpreter: (.+)\]")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that holds unpacked packages of one `architecture`, as they would be under /."""

    path: Path
    architecture: str

    @property
    def triplet(self) -> str:
        """GNU's name of the processor."""
        return TRIPLETS[self.architecture]

    def inside(self, file: Path) -> str:
        """Give the path that `file` has where the packages are installed."""
        return f"/{file.relative_to(self.path)}"

    def libraries(self, programs: Iterable[Path]) -> Sequence[tuple[str, Path]]:
        """Give what `programs` load: the path that each library has for them, and its file.

        Raises `BootstrapError` for one that is not there.
        """
        found: dict[str, Path] = {}
        left = list(programs)
        while left:
            program = left.pop()
            said = _run(["readelf", "--wide", "--dynamic", "--program-headers", str(program)])
            for name in [*_INTERPRETER.findall(said), *_NEEDED.findall(said)]:
                place, file = self._library(name, program)
                if place not in found:
                    found[place] = file
                    left.append(file)
        return sorted(found.items())

    def _library(self, name: str, program: Path) -> tuple[str, Path]:
        """Find a library by the name under which it is loaded, or by the interpreter's path."""
        folders = [""] if name.startswith("/") else [f"/lib/{self.triplet}", f"/usr/lib/{self.triplet}"]
        for folder in folders:
            place = f"{folder}/{name}" if folder else name
            file = self._resolved(place)
            if file:
                return place, file
        raise BootstrapError(
            f"{self.inside(program)} of Debian's {self.architecture} packages needs {name}, of which there is none"
        )

    def _resolved(self, place: str) -> Path | None:
        """Follow links as they are meant: those to absolute paths stay within the folder."""
        file = self.path / place.lstrip("/")
        for _ in range(8):
            if not file.is_symlink():
                return file if file.is_file() else None
            target = file.readlink()
            file = self.path / str(target).lstrip("/") if target.is_absolute() else file.parent / target
        return None


def unpack(architecture: str, packages: Iterable[str], progress: Progress) -> Root:
    """Give `packages` and all that they depend on for `architecture`, unpacked in the cache.

    They are those of this machine's release of Debian, from where it has its own packages, and fetched once for each
    (point) release. Raises `BootstrapError` where they cannot be had.
    """
    wanted = sorted(set(packages))
    release = _RELEASE.read_text().strip() if _RELEASE.exists() else ""
    key = hashlib.sha256("\n".join([release, *wanted]).encode()).hexdigest()[:16]
    shelf = cache.folder() / "debian"
    root = shelf / f"{architecture}@{key}"
    if not root.is_dir():
        shelf.mkdir(parents=True, exist_ok=True)
        for old in [*shelf.glob(f"{architecture}@*"), *shelf.glob(f".{architecture}@*")]:
            shutil.rmtree(old)
        progress(f"debian: fetching {len(wanted)} packages for {architecture}, and what they depend on")
        with tempfile.TemporaryDirectory(dir=shelf, prefix=f".{architecture}@") as work:
            _fetch(architecture, wanted, Path(work))
            made = Path(work) / "root"
            made.mkdir()
            for package in sorted(Path(work).glob("cache/archives/*.deb")):
                _run(["dpkg-deb", "--extract", str(package), str(made)])
            made.rename(root)
    return Root(root, architecture)


def _fetch(architecture: str, packages: Sequence[str], work: Path) -> None:
    """Fetch packages into `work`/cache/archives, with an apt that knows of nothing that is installed."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::Cache": str(work / "cache"),
        "Dir::State": str(work / "state"),
        "Dir::State::status": "/dev/null",
    }
    apt = ["apt-get", "--quiet", *(f"--option={name}={value}" for name, value in settings.items())]
    _run([*apt, "update"])
    _run([*apt, "install", "--yes", "--download-only", *packages])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BootstrapError(f"{command[0]} did not end within {_SECONDS // 60} minutes") from error
    if done.returncode != 0:
        last = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        raise BootstrapError(f"{command[0]} failed; its last lines:\n{last}")
    return done.stdout
