"""Images as tars of an OCI image layout (image-spec v1.1), made from files. Equal files give equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or link of a layer, owned by root. `path` is absolute.

    A file has its contents from `source`, a link has the text `link`; an entry with neither is a directory.
    """

    path: str
    source: Path | bytes | None = None
    mode: int = 0o755
    link: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """How a container of the image starts."""

    entrypoint: Sequence[str]
    command: Sequence[str] = ()
    user: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of an image layout, at `path` or in `data`."""

    digest: str
    size: int
    data: bytes | Path

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Blob:
        """Make the blob of a JSON document."""
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        return cls(hashlib.sha256(data).hexdigest(), len(data), data)

    def descriptor(self, media: str, **more: object) -> dict[str, object]:
        """Describe the blob for other documents of the layout."""
        return {"mediaType": f"{_MEDIA}.{media}", "digest": f"sha256:{self.digest}", "size": self.size, **more}


def write_layer(entries: Iterable[Entry], to: BinaryIO) -> None:
    """Write a layer: sorted, without times, every directory above an entry with mode 0755 where it is not listed."""
    listed = {PurePosixPath(entry.path): entry for entry in entries}
    for path in list(listed):
        for above in path.parents[:-1]:
            listed.setdefault(above, Entry(str(above)))
    with tarfile.open(fileobj=to, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(listed):
            entry = listed[path]
            name = str(path).lstrip("/")
            if entry.link:
                info = _info(name, 0, 0o777, tarfile.SYMTYPE)
                info.linkname = entry.link
                tar.addfile(info)
            elif entry.source is None:
                tar.addfile(_info(f"{name}/", 0, entry.mode, tarfile.DIRTYPE))
            elif isinstance(entry.source, bytes):
                tar.addfile(_info(name, len(entry.source), entry.mode), io.BytesIO(entry.source))
            else:
                with entry.source.open("rb") as file:
                    tar.addfile(_info(name, entry.source.stat().st_size, entry.mode), file)


def write_image(layers: Sequence[Sequence[Entry]], config: Config, reference: str, platform: str, to: Path) -> str:
    """Write an image to the file `to` and give its manifest's digest (`sha256:...`).

    A runtime that imports it knows it as `reference`, and by that digest.
    """
    system, _, architecture = platform.partition("/")
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as work:
        made = [_layer(entries, Path(work) / str(number)) for number, entries in enumerate(layers)]
        process = {"Env": [f"PATH={PATH}"], "Entrypoint": list(config.entrypoint), "WorkingDir": "/"}
        process |= {"Cmd": list(config.command)} if config.command else {}
        process |= {"User": config.user} if config.user else {}
        image = Blob.of_json(
            {
                "architecture": architecture,
                "os": system,
                "created": "1970-01-01T00:00:00Z",
                "config": process,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in made]},
            }
        )
        manifest = Blob.of_json(
            {
                "schemaVersion": 2,
                "mediaType": f"{_MEDIA}.manifest.v1+json",
                "config": image.descriptor("config.v1+json"),
                "layers": [layer.descriptor("layer.v1.tar") for layer in made],
            }
        )
        write_layout(manifest, f"{_MEDIA}.manifest.v1+json", (image, *made), reference, platform, to)
    return f"sha256:{manifest.digest}"


def write_layout(
    manifest: Blob, media_type: str, blobs: Iterable[Blob], reference: str, platform: str, to: Path
) -> None:
    """Write the image layout of one image to the file `to`: its manifest, and the `blobs` that names."""
    system, _, architecture = platform.partition("/")
    described = {
        "mediaType": media_type,
        "digest": f"sha256:{manifest.digest}",
        "size": manifest.size,
        "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference},
        "platform": {"architecture": architecture, "os": system},
    }
    index = Blob.of_json({"schemaVersion": 2, "mediaType": f"{_MEDIA}.index.v1+json", "manifests": [described]})
    layout = Blob.of_json({"imageLayoutVersion": "1.0.0"})
    files = {f"blobs/sha256/{blob.digest}": blob for blob in (manifest, *blobs)}
    with tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ("blobs/", "blobs/sha256/"):
            tar.addfile(_info(folder, 0, 0o755, tarfile.DIRTYPE))
        for name, blob in (*sorted(files.items()), ("index.json", index), ("oci-layout", layout)):
            with io.BytesIO(blob.data) if isinstance(blob.data, bytes) else blob.data.open("rb") as file:
                tar.addfile(_info(name, blob.size, 0o644), file)


def _layer(entries: Sequence[Entry], to: Path) -> Blob:
    with to.open("w+b") as file:
        write_layer(entries, file)
        size = file.tell()
        file.seek(0)
        return Blob(hashlib.file_digest(file, "sha256").hexdigest(), size, to)


def _info(name: str, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, mode, kind
    return info
