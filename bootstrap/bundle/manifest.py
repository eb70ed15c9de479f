"""A bundle's `manifest.json`: one entry for each file, with size and SHA-256.

The layout of a bundle, as a folder or as an uncompressed tar of it:

    manifest.json
    blobs/sha256/<hex digest>      a program as it is, or an image as a tar of an OCI image layout
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bootstrap.bundle import catalog
from bootstrap.site import BLOBS as BLOBS
from bootstrap.site import Artifact, Contents, ImageArtifact
from bootstrap.spec import Model

NAME = "manifest.json"
LARGEST_BYTES = 4 * 1024 * 1024
"""A manifest above this size is refused unread; ours have 10 KB."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, strict=True)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
MachinePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$")]
Reference = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+:[A-Za-z0-9_][A-Za-z0-9._-]*$")
]


class BinaryFile(Model):
    """A program: goes to `path` on a machine, with mode 0755."""

    kind: Literal["binary"] = "binary"
    name: Word
    version: Word
    path: MachinePath
    size: Size
    sha256: Digest


class ImageFile(Model):
    """An image of component `name`. `target` is the digest of its manifest, by which a runtime knows it."""

    kind: Literal["image"] = "image"
    name: Word
    version: Word
    reference: Reference
    target: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Size
    sha256: Digest


BundleFile = Annotated[BinaryFile | ImageFile, Field(discriminator="kind")]


class Manifest(Model):
    """What a bundle holds. `kubernetes_version` is without v, `platform` is Go's `os/arch`."""

    schema_version: Literal[1] = 1
    kubernetes_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    platform: Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+$")]
    files: tuple[BundleFile, ...]

    @property
    def contents(self) -> Contents:
        """The same as the rest of the program sees it."""
        return Contents(
            kubernetes_version=self.kubernetes_version,
            platform=self.platform,
            binaries=tuple(Artifact(f.path, f.sha256, f.size) for f in self.files if isinstance(f, BinaryFile)),
            images=tuple(
                ImageArtifact(f.name, f.reference, f.target, f.sha256, f.size)
                for f in self.files
                if isinstance(f, ImageFile)
            ),
        )


def blob(digest: str) -> str:
    """Name the blob of `digest` within a bundle."""
    return f"{BLOBS}/{digest}"


def dump(manifest: Manifest) -> bytes:
    """Write `manifest` as JSON; equal manifests give equal bytes."""
    return (json.dumps(manifest.model_dump(by_alias=True), indent=2) + "\n").encode()


def parse(data: bytes) -> Manifest:
    """Read a manifest. Raises `ValueError` with all that is wrong, one problem a line."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    version = raw.get("schemaVersion") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > 1:
        raise ValueError(f"it has schemaVersion {version}, made by a newer kubestrap; this one reads 1")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'the document'}: {e['msg']}" for e in error.errors()]
        raise ValueError("\n".join(lines)) from error
    problems = list(_contradictions(manifest))
    if problems:
        raise ValueError("\n".join(problems))
    return manifest


def _contradictions(manifest: Manifest) -> list[str]:
    places = [f.path if isinstance(f, BinaryFile) else f"image {f.name}" for f in manifest.files]
    found = [f"{place} is listed more than once" for place in dict.fromkeys(places) if places.count(place) > 1]
    sizes = {f.sha256: f.size for f in manifest.files}
    found += [f"{blob(f.sha256)} is listed with two sizes" for f in manifest.files if sizes[f.sha256] != f.size]
    found += [f"{place} is not listed" for place in catalog.REQUIRED if place not in places]
    return found
