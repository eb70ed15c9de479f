"""Small bundles: every file that the catalogue requires, each a few bytes long."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from bootstrap.bundle import catalog, manifest
from bootstrap.bundle.manifest import BinaryFile, BundleFile, ImageFile, Manifest

VERSION = catalog.kubernetes_version()


def write_bundle(folder: Path, *, version: str = VERSION, platform: str = "linux/amd64") -> Manifest:
    """Write a whole bundle into `folder`."""
    (folder / manifest.BLOBS).mkdir(parents=True)
    files: list[BundleFile] = []
    for _, name, where in catalog.BINARIES:
        data = f"program {name}".encode()
        digest = put(folder, data)
        files.append(BinaryFile(name=name, version="1.0", path=f"{where}/{name}", size=len(data), sha256=digest))
    for image in catalog.IMAGES:
        data = f"image {image.name}".encode()
        digest = put(folder, data)
        files.append(
            ImageFile(
                name=image.name,
                version="1.0",
                reference=f"{image.repository}:1.0",
                target=f"sha256:{digest}",
                size=len(data),
                sha256=digest,
            )
        )
    made = Manifest(kubernetes_version=version, platform=platform, files=tuple(files))
    (folder / manifest.NAME).write_bytes(manifest.dump(made))
    return made


def put(folder: Path, data: bytes) -> str:
    """Write a blob and give its digest."""
    digest = hashlib.sha256(data).hexdigest()
    (folder / manifest.blob(digest)).write_bytes(data)
    return digest


def pack(folder: Path, to: Path) -> Path:
    """Put the bundle in `folder` into one file."""
    with tarfile.open(to, "w") as tar:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            tar.add(file, str(file.relative_to(folder)))
    return to
