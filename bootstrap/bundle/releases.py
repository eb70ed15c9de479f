"""What projects publish as the source of a bundle: programs from their releases, images from their registries.

The addresses are those that kubeadm and kubespray use. A mirror has the same paths.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bootstrap.bundle import cache, catalog, elf, lockfile, manifest
from bootstrap.bundle.catalog import Image
from bootstrap.bundle.download import Client, DownloadFailed, WrongDigest
from bootstrap.bundle.gomodules import only_builder
from bootstrap.bundle.lockfile import Lock
from bootstrap.bundle.manifest import BinaryFile, BundleFile, ImageFile, Manifest
from bootstrap.bundle.reader import Progress
from bootstrap.bundle.registry import Registry
from bootstrap.bundle.source import take
from bootstrap.errors import ConfigError
from bootstrap.values import REGISTRY_SERVERS

_LARGEST_LIST = 1024 * 1024
_GITHUB = "https://github.com"


@dataclass(frozen=True, slots=True)
class Release:
    """A published file of the version that `module` pins: a program, or a compressed tar of some.

    In addresses `{version}` is without v, and `{architecture}` Go's name. `digests` is where its SHA-256 is published.
    `programs` are the names within the tar by program; with a name that is empty the file is the program.
    """

    module: str
    url: str
    digests: str
    programs: Mapping[str, str]


def _kubernetes(program: str) -> Release:
    url = f"https://dl.k8s.io/release/v{{version}}/bin/linux/{{architecture}}/{program}"
    return Release("kubernetes", url, f"{url}.sha256", {program: ""})


def _plugins(module: str, *programs: str) -> Release:
    file = "cni-plugins-linux-{architecture}-v{version}.tgz"
    url = f"{_GITHUB}/containernetworking/plugins/releases/download/v{{version}}/{file}"
    return Release(module, url, f"{url}.sha256", {program: program for program in programs})


_CONTAINERD = (
    f"{_GITHUB}/containerd/containerd/releases/download/v{{version}}/"
    "containerd-{version}-linux-{architecture}.tar.gz"
)
_RUNC = f"{_GITHUB}/opencontainers/runc/releases/download/v{{version}}"

RELEASES = (
    _kubernetes("kubelet"),
    _kubernetes("kubectl"),
    Release(
        "containerd",
        _CONTAINERD,
        f"{_CONTAINERD}.sha256sum",
        {program: f"bin/{program}" for program in ("containerd", "containerd-shim-runc-v2", "ctr")},
    ),
    Release("runc", f"{_RUNC}/runc.{{architecture}}", f"{_RUNC}/runc.sha256sum", {"runc": ""}),
    _plugins("cni-plugins", "bandwidth", "bridge", "firewall", "host-local", "loopback", "portmap"),
    _plugins("flannel-cni", "flannel"),
)
PUBLISHED_TAGS = {"keepalived": "2.0.20"}
"""Tags of images that nobody publishes under the tag that the built one has."""


def hosts() -> Mapping[str, str]:
    """Give the official servers: the address by each host in the table and in the images' names."""
    names = [urlsplit(release.url).netloc for release in RELEASES]
    names += [_host(image) for image in catalog.IMAGES]
    return {name: f"https://{REGISTRY_SERVERS.get(name, name)}" for name in names}


def mirror(url: str, registry: str = "") -> Mapping[str, str]:
    """Give the servers of a mirror: files at `url`/HOST/PATH, images under their own names without the host.

    The registry is the one at `registry`, else at the host of `url`.
    """
    parts = urlsplit(url)
    files = {name: f"{url.rstrip('/')}/{name}" for name in {urlsplit(release.url).netloc for release in RELEASES}}
    images = registry.rstrip("/") or f"{parts.scheme}://{parts.netloc}"
    return {**dict.fromkeys(map(_host, catalog.IMAGES), images), **files}


@dataclass(frozen=True, slots=True)
class Releases:
    """Published files, each from the server of its host in `servers`, by `client`.

    What is published as a digest is written to the file `lock` when all of it has come; what stands there already is
    what has to come, and nobody is asked. What was downloaded stays in the cache, by its digest.
    """

    client: Client
    lock: Path
    servers: Mapping[str, str] = field(default_factory=hosts)
    platform: str = catalog.PLATFORM

    def unreachable(self) -> DownloadFailed | None:
        """Say what is wrong where the server of Kubernetes' programs does not answer."""
        return self.client.answers(self._address(self._fill_in(RELEASES[0], RELEASES[0].digests)))

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Download every program and image. Raises `DownloadFailed`, and `ConfigError` for the lock file."""
        with only_builder(progress):
            return self._fill(folder, progress)

    def _fill(self, folder: Path, progress: Progress) -> Manifest:
        known = lockfile.read(self.lock)
        downloads = cache.folder() / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        files: dict[str, str] = {}
        images: dict[str, Mapping[str, str]] = {}
        programs: dict[tuple[str, str], BinaryFile] = {}
        for release in RELEASES:
            url = self._fill_in(release, release.url)
            progress(f"downloading {url}")
            files[url] = known.files.get(url) or self._published(release, url)
            place = downloads / files[url]
            self._locked(known.files, url, place, files[url])
            programs |= {(release.module, one.name): one for one in self._programs(folder, release, url, place)}
        listed: list[BundleFile] = [programs[module, name] for module, name, _ in catalog.BINARIES]
        for number, image in enumerate(catalog.IMAGES, 1):
            progress(f"downloading images {number}/{len(catalog.IMAGES)} {image.name}")
            made = self._image(folder, image, known, downloads)
            locked = known.images.get(made.reference, {})
            images[made.reference] = {**locked, self.platform: made.target}
            listed.append(made)
        lock = Lock(files={**known.files, **files}, images={**known.images, **images})
        if lockfile.write(self.lock, lock):
            progress(f"{self.lock}: holds the digests of all that was downloaded; keep it beside your inventory")
        return Manifest(kubernetes_version=catalog.kubernetes_version(), platform=self.platform, files=tuple(listed))

    @property
    def _architecture(self) -> str:
        return self.platform.partition("/")[2]

    def _fill_in(self, release: Release, text: str) -> str:
        version = catalog.module(release.module).version
        return text.format(version=version, architecture=self._architecture)

    def _address(self, url: str) -> str:
        parts = urlsplit(url)
        return f"{self.servers[parts.netloc]}{parts.path}"

    def _published(self, release: Release, url: str) -> str:
        address = self._address(self._fill_in(release, release.digests))
        text = self.client.read(address, most=_LARGEST_LIST).data.decode(errors="replace")
        digest = listed_digest(text, url.rpartition("/")[2])
        if digest is None:
            raise DownloadFailed(address, f"it has no SHA-256 of {url.rpartition('/')[2]}")
        return digest

    def _locked(self, locked: Mapping[str, str], url: str, place: Path, digest: str) -> None:
        try:
            self.client.download(self._address(url), place, sha256=digest)
        except WrongDigest as error:
            if url not in locked:
                raise
            raise _not_as_locked(self.lock, url, error) from error

    def _programs(self, folder: Path, release: Release, url: str, file: Path) -> Iterator[BinaryFile]:
        version = catalog.module(release.module).version
        places = {(module, program): where for module, program, where in catalog.BINARIES}
        for name, member in release.programs.items():
            where = places[release.module, name]
            blob = folder / manifest.BLOBS / f".{name}"
            if member:
                _extract(url, file, member, blob)
            else:
                shutil.copyfile(file, blob)
            if elf.architecture(blob) != self._architecture:
                raise DownloadFailed(url, f"{name} in it is no program for {self.platform}")
            digest, size = take(folder, blob)
            yield BinaryFile(name=name, version=version, path=f"{where}/{name}", size=size, sha256=digest)

    def _image(self, folder: Path, image: Image, known: Lock, downloads: Path) -> ImageFile:
        version = catalog.module(image.module).version if "{version}" in image.tag else image.tag
        version = PUBLISHED_TAGS.get(image.name, version)
        tag = PUBLISHED_TAGS.get(image.name) or image.tag.format(version=version)
        reference = f"{image.repository}:{tag}"
        host, _, repository = image.repository.partition("/")
        registry = Registry(self.client, self.servers[host])
        locked = known.images.get(reference, {}).get(self.platform)
        archive = folder / manifest.BLOBS / f".{image.name}.tar"
        try:
            found = registry.find(repository, locked or tag, self.platform)
            registry.save(found, reference, self.platform, downloads, archive)
        except WrongDigest as error:
            if locked is None:
                raise
            raise _not_as_locked(self.lock, reference, error) from error
        digest, size = take(folder, archive)
        return ImageFile(
            name=image.name, version=version, reference=reference, target=found.digest, size=size, sha256=digest
        )


def listed_digest(text: str, file: str) -> str | None:
    """Find the SHA-256 of `file` in what is published: the digest alone, or lines as `sha256sum` writes them."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1:
        lines[0].append(file)
    for digest, *name in lines:
        hexadecimal = len(digest) == 64 and not set(digest.lower()) - set("0123456789abcdef")
        if hexadecimal and [word.lstrip("*").rpartition("/")[2] for word in name] == [file]:
            return digest.lower()
    return None


def _host(image: Image) -> str:
    return image.repository.partition("/")[0]


def _not_as_locked(lock: Path, what: str, error: WrongDigest) -> ConfigError:
    return ConfigError(
        f"{error}. This is what {lock} wants for {what}. Where its publisher has put another file there, and you trust "
        "that, take the entry out of the lock file and run the command again"
    )


def _extract(url: str, archive: Path, name: str, to: Path) -> None:
    """Write the file `name` of a compressed tar to the file `to`. Raises `DownloadFailed` where there is none."""
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() and member.name.removeprefix("./") == name else None
                if source is not None:
                    with to.open("wb") as target:
                        shutil.copyfileobj(source, target, 1024 * 1024)
                    return
    except tarfile.TarError as error:
        raise DownloadFailed(url, f"it is no compressed tar ({error})") from error
    raise DownloadFailed(url, f"{name} is not in it")
