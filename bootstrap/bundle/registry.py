"""Images from registries, by the OCI distribution protocol (distribution-spec v1.1), for one platform each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from bootstrap.bundle import oci
from bootstrap.bundle.download import Client, DownloadFailed, WrongDigest
from bootstrap.spec import Model

LARGEST_MANIFEST = 4 * 1024 * 1024
"""A manifest above this size is refused, as registries themselves do."""

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Loose(Model, extra="ignore"):
    """A part of somebody else's document: what is not needed here is left unread."""


class _Platform(_Loose):
    architecture: str
    os: str
    variant: str = ""


class _Descriptor(_Loose):
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    platform: _Platform | None = None


class _Index(_Loose):
    manifests: tuple[_Descriptor, ...]


class _Manifest(_Loose):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


Shape = TypeVar("Shape", bound=_Loose)


@dataclass(frozen=True, slots=True)
class Found:
    """The manifest of an image for one platform, as the registry gave it: `digest` is of exactly these bytes."""

    repository: str
    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The digest by which runtimes know the image (`sha256:...`)."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry at `url` (`https://registry.k8s.io`); what its path names stands before each repository's name."""

    client: Client
    url: str

    def find(self, repository: str, reference: str, platform: str) -> Found:
        """Find the image that `reference` (a tag or a digest) names in `repository`, for `platform` (`linux/arm64`).

        Raises `DownloadFailed`.
        """
        found, document = self._manifest(repository, reference)
        if "manifests" in document:
            address = self._address(repository, "manifests", reference)
            digest = _of_platform(address, _read(address, _Index, document), platform)
            found, document = self._manifest(repository, digest)
        _read(self._address(repository, "manifests", found.digest), _Manifest, document)
        return found

    def save(self, found: Found, name: str, platform: str, blobs: Path, to: Path) -> None:
        """Write the image to the file `to`, a tar of an OCI image layout in which it has the reference `name`.

        Its blobs are downloaded into the folder `blobs`, where each has the name of its digest, and stay there.
        Raises `DownloadFailed`.
        """
        manifest = _Manifest.model_validate_json(found.data)
        parts = [self._blob(found.repository, part, blobs) for part in (manifest.config, *manifest.layers)]
        blob = oci.Blob(found.digest.removeprefix("sha256:"), len(found.data), found.data)
        oci.write_layout(blob, found.media_type, parts, name, platform, to)

    def _manifest(self, repository: str, reference: str) -> tuple[Found, dict[str, Any]]:
        url = self._address(repository, "manifests", reference)
        answer = self.client.read(
            url, most=LARGEST_MANIFEST, accept=", ".join((*_INDEXES, *_MANIFESTS)), scope=self._repository(repository)
        )
        given = f"sha256:{hashlib.sha256(answer.data).hexdigest()}"
        told = answer.headers.get("Docker-Content-Digest", given)
        wanted = reference if reference.startswith("sha256:") else told
        if given != wanted or (told.startswith("sha256:") and given != told):
            raise WrongDigest(url, f"its digest is {given}, not {wanted}; it was altered on its way, or there")
        try:
            document = json.loads(answer.data)
        except (ValueError, RecursionError) as error:
            raise DownloadFailed(url, f"it is no manifest of an image ({error})") from error
        if not isinstance(document, dict):
            raise DownloadFailed(url, "it is no manifest of an image")
        media_type = str(document.get("mediaType") or answer.headers.get_content_type())
        if media_type not in {*_INDEXES, *_MANIFESTS}:
            raise DownloadFailed(url, f"it has the form {media_type}, which is not one of images for containerd")
        return Found(repository, answer.data, media_type), document

    def _blob(self, repository: str, part: _Descriptor, blobs: Path) -> oci.Blob:
        digest = part.digest.removeprefix("sha256:")
        place = blobs / digest
        url = self._address(repository, "blobs", part.digest)
        self.client.download(url, place, sha256=digest, size=part.size, scope=self._repository(repository))
        return oci.Blob(digest, part.size, place)

    def _repository(self, repository: str) -> str:
        prefix = self.url.split("://", 1)[1].partition("/")[2].strip("/")
        return f"{prefix}/{repository}" if prefix else repository

    def _address(self, repository: str, kind: str, name: str) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}/v2/{self._repository(repository)}/{kind}/{name}"


def _read(url: str, shape: type[Shape], document: dict[str, Any]) -> Shape:
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DownloadFailed(url, f"it is no manifest of an image ({problems})") from error


def _of_platform(url: str, index: _Index, platform: str) -> str:
    """Give the digest of the manifest for `platform`. Raises `DownloadFailed` where there is none."""
    for manifest in index.manifests:
        own = manifest.platform
        if own is not None and f"{own.os}/{own.architecture}" == platform and own.variant in {"", "v8"}:
            return manifest.digest
    raise DownloadFailed(url, f"the image is not there for {platform}")
