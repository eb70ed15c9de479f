"""Bundles of what projects publish: the address table leads to servers of this machine that have the same paths."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import queue
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from servers import FileServer, RegistryServer, Reply, basic, docker_config, running_registry, serving_files

from bootstrap import cli
from bootstrap.bundle import catalog, open_bundle, releases
from bootstrap.bundle.build import build
from bootstrap.bundle.download import Client, DownloadFailed, Limits, NotThere, WrongDigest
from bootstrap.bundle.existing import ExistingBundle
from bootstrap.bundle.gomodules import only_builder
from bootstrap.bundle.manifest import BinaryFile, ImageFile
from bootstrap.bundle.reader import Bundle
from bootstrap.bundle.releases import RELEASES, Releases, listed_digest
from bootstrap.bundle.source import NoSourceAnswers, choose
from bootstrap.errors import ConfigError

pytestmark = pytest.mark.timeout(1800)  # the first one may have to build the registry

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = Limits(silence=5, attempts=2, pause=0.01)
MACHINES = {"amd64": 62, "arm64": 183}


def program(name: str, architecture: str) -> bytes:
    """Give a file that begins as a program of this name for these processors."""
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + MACHINES[architecture].to_bytes(2, "little") + name.encode()


def compressed(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def address(release: releases.Release, text: str, architecture: str) -> str:
    """Give what is served at an official address: host and path."""
    url = text.format(version=catalog.module(release.module).version, architecture=architecture)
    return url.removeprefix("https:/")


def publish(server: FileServer, *, prefix: str = "", architectures: tuple[str, ...] = ("amd64", "arm64")) -> None:
    """Put every release on the server, below `prefix`, and its digest."""
    for architecture in architectures:
        for release in RELEASES:
            members = {f"./{name}" if "plugins" in release.url else name: one for one, name in release.programs.items()}
            data = {name: program(one, architecture) for name, one in members.items()}
            content = next(iter(data.values())) if "" in data else compressed(data)
            path = prefix + address(release, release.url, architecture)
            side = prefix + address(release, release.digests, architecture)
            digest = hashlib.sha256(content).hexdigest()
            alone = release.module == "kubernetes"
            line = digest if alone else f"{digest}  {path.rpartition('/')[2]}\n"
            server.files[path] = content
            server.files[side] = (b"" if alone else server.files.get(side, b"")) + line.encode()


def push(registry: RegistryServer) -> None:
    """Put every image into the registry, for both platforms."""
    for image in catalog.IMAGES:
        push_one(registry, image.name)


def push_one(registry: RegistryServer, name: str, layer: bytes = b"") -> None:
    (image,) = (image for image in catalog.IMAGES if image.name == name)
    version = catalog.module(image.module).version if image.module else ""
    tag = releases.PUBLISHED_TAGS.get(name) or image.tag.format(version=version)
    repository = image.repository.partition("/")[2]
    registry.push(repository, tag, {f"linux/{one}": (layer or f"{name} {one}".encode(),) for one in MACHINES})


@dataclass(frozen=True)
class Published:
    """Servers with all that is published."""

    files: FileServer
    registry: RegistryServer
    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "bundle.lock.json"

    def source(self, platform: str = "linux/amd64") -> Releases:
        names = {urlsplit(release.url).netloc for release in RELEASES}
        servers = {
            name: f"{self.files.url}/{name}" if name in names else self.registry.url for name in releases.hosts()
        }
        client = Client(ca=self.registry.ca, limits=QUICK)
        return Releases(client, self.lock, servers, platform)

    def create(self, platform: str = "linux/amd64") -> Bundle:
        return build(self.source(platform), self.folder / "bundle")

    def path(self, module: str, architecture: str = "amd64", *, side: bool = False) -> str:
        """Give the path of the first file of `module` on the server."""
        release = next(release for release in RELEASES if release.module == module)
        return address(release, release.digests if side else release.url, architecture)


@pytest.fixture(scope="module")
def stock(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a registry that has every image."""
    with running_registry(registry_program, tmp_path_factory.mktemp("stock") / "registry") as server:
        push(server)
    return server.folder


@pytest.fixture
def published(file_server: FileServer, registry_program: Path, stock: Path, tmp_path: Path) -> Iterator[Published]:
    publish(file_server)
    with running_registry(registry_program, tmp_path / "registry", stock=stock) as registry:
        yield Published(file_server, registry, tmp_path)


@pytest.mark.parametrize("architecture", MACHINES)
def test_a_bundle_is_made_of_what_is_published(published: Published, architecture: str) -> None:
    made = published.create(f"linux/{architecture}")
    made.verify()
    for listed in made.manifest.files:
        with made.open(listed.sha256) as blob:
            data = blob.read()
        if isinstance(listed, BinaryFile):
            assert data == program(listed.name, architecture)
        else:
            assert f"{listed.name} {architecture}".encode() in data
    assert made.manifest.platform == f"linux/{architecture}"


def test_the_official_servers_are_those_of_the_projects() -> None:
    assert releases.hosts() == {
        "dl.k8s.io": "https://dl.k8s.io",
        "docker.io": "https://registry-1.docker.io",
        "ghcr.io": "https://ghcr.io",
        "github.com": "https://github.com",
        "registry.k8s.io": "https://registry.k8s.io",
    }


def test_the_lock_file_has_every_digest_of_every_platform(published: Published) -> None:
    published.create()
    made = published.create("linux/arm64")
    lock = json.loads(published.lock.read_text())
    assert len(lock["files"]) == 2 * len(RELEASES)
    assert f"https:/{published.path('runc', 'arm64')}" in lock["files"]
    images = {listed.reference: listed.target for listed in made.manifest.files if isinstance(listed, ImageFile)}
    assert {reference: locked["linux/arm64"] for reference, locked in lock["images"].items()} == images
    assert all(set(locked) == {"linux/amd64", "linux/arm64"} for locked in lock["images"].values())


def test_a_second_run_changes_and_downloads_nothing(published: Published) -> None:
    made = published.create()
    before = (published.lock.stat().st_mtime_ns, made.path.stat().st_ino)
    published.files.requests.clear()
    assert published.create().manifest == made.manifest
    assert (published.lock.stat().st_mtime_ns, made.path.stat().st_ino) == before
    assert published.files.requests == []


def test_two_runs_do_not_write_the_same_downloads_at_once(published: Published) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    other = threading.Thread(target=lambda: build(published.source(), published.folder / "bundle", told.put))
    with only_builder(print):
        other.start()
        assert told.get(timeout=60) == "waiting for another build to end"
        assert published.files.requests == []
    other.join(60)
    open_bundle(published.folder / "bundle", kubernetes_version=None).verify()


def test_what_is_locked_is_what_counts_and_no_published_digest(published: Published, cache_folder: Path) -> None:
    made = published.create()
    for path in [path for path in published.files.files if "sha256" in path]:
        del published.files.files[path]
    push_one(published.registry, "pause", b"pushed over it")
    for file in (cache_folder / "downloads").iterdir():
        file.unlink()
    assert published.create().manifest == made.manifest


def test_a_file_that_is_published_anew_is_refused(published: Published, cache_folder: Path) -> None:
    published.create()
    before = published.lock.read_bytes()
    published.files.files[published.path("kubernetes")] = program("altered", "amd64")
    for file in (cache_folder / "downloads").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match=r"bundle\.lock\.json wants for https://dl\.k8s\.io/.*/kubelet"):
        published.create()
    assert published.lock.read_bytes() == before


def test_another_file_than_the_published_digest_says_is_refused(published: Published) -> None:
    published.files.files[published.path("containerd")] = compressed({"bin/containerd": b"altered"})
    with pytest.raises(WrongDigest, match=r"containerd-.*\.tar\.gz"):
        published.create()
    assert not published.lock.exists()
    assert not (published.folder / "bundle").exists()


def test_a_release_without_a_published_digest_is_refused(published: Published) -> None:
    published.files.files[published.path("runc", side=True)] = b"0" * 64 + b"  another.file\n"
    with pytest.raises(DownloadFailed, match=r"no SHA-256 of runc\.amd64"):
        published.create()


def test_a_missing_release_is_named(published: Published) -> None:
    del published.files.files[published.path("runc")]
    with pytest.raises(NotThere, match=r"runc\.amd64"):
        published.create()


def replace_release(published: Published, module: str, content: bytes) -> None:
    path = published.path(module)
    published.files.files[path] = content
    line = f"{hashlib.sha256(content).hexdigest()}  {path.rpartition('/')[2]}\n"
    published.files.files[published.path(module, side=True)] = line.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (compressed({"bin/containerd": program("containerd", "amd64")}), "bin/containerd-shim-runc-v2 is not in it"),
        (b"no tar at all", "no compressed tar"),
        (compressed({"bin/containerd": program("containerd", "arm64")}), "no program for linux/amd64"),
        (compressed({"bin/containerd": b"#!/bin/sh\n"}), "no program for linux/amd64"),
    ],
)
def test_a_release_without_the_programs_is_refused(published: Published, content: bytes, told: str) -> None:
    replace_release(published, "containerd", content)
    with pytest.raises(DownloadFailed, match=told):
        published.create()


def test_the_first_source_that_answers_is_taken(published: Published, tmp_path: Path) -> None:
    with serving_files(tmp_path) as gone:
        servers = dict.fromkeys(releases.hosts(), gone.url)
    silent = Releases(Client(ca=tmp_path / "ca.pem", limits=QUICK), published.lock, servers)
    told: list[str] = []
    source = published.source()
    assert choose([silent, source], told.append) is source
    assert gone.url in told[0]
    with pytest.raises(NoSourceAnswers) as caught:
        choose([silent], told.append)
    assert caught.value.exit_code == 5


def test_a_source_that_answers_is_not_passed_over_for_what_it_lacks(published: Published) -> None:
    del published.files.files[published.path("kubernetes", side=True)]
    source = published.source()
    assert choose([source], print) is source


def test_a_bundle_for_other_machines_can_be_copied(published: Published, tmp_path: Path) -> None:
    made = published.create("linux/arm64")
    copy = build(ExistingBundle(made.path), None)
    assert copy.manifest == made.manifest
    assert copy.path.name.endswith("-linux-arm64")
    assert open_bundle(None, kubernetes_version=None, platform="linux/arm64").manifest == made.manifest


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("a" * 64, "a" * 64),
        ("A" * 64 + "\n", "a" * 64),
        ("a" * 64 + "  file\n" + "b" * 64 + "  other\n", "a" * 64),
        ("b" * 64 + " *other\n" + "a" * 64 + " *./file\n", "a" * 64),
        ("a" * 63, None),
        ("g" * 64, None),
        ("a" * 64 + "  other\n", None),
        ("<html>no such file</html>", None),
        ("", None),
    ],
)
def test_published_digests_are_read_in_every_form(text: str, digest: str | None) -> None:
    assert listed_digest(text, "file") == digest


@pytest.fixture
def mirrored(published: Published, monkeypatch: pytest.MonkeyPatch) -> Published:
    """The servers as a mirror: files below a path of their own; the working folder is the test's."""
    publish(published.files, prefix="/kubernetes")
    monkeypatch.chdir(published.folder)
    return published


def apart(*arguments: str) -> int:
    """Run a command about bundles in a network namespace without any network, and give its exit code."""
    command = ["unshare", "--net", sys.executable, "-m", "bootstrap", "bundle", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=120).returncode


def create(published: Published, *more: str) -> int:
    mirror = ("--source", f"{published.files.url}/kubernetes", "--registry", published.registry.url)
    return cli.run(["bundle", "create", *mirror, "--ca-file", str(published.registry.ca), *more])


def test_a_mirror_has_the_same_paths(mirrored: Published, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(mirrored, "--to", "made.tar") == 0
    assert capsys.readouterr().out == f"{mirrored.folder}/made.tar\n"
    assert cli.run(["bundle", "verify", "made.tar"]) == 0
    assert "https://dl.k8s.io/" in mirrored.lock.read_text()
    assert {request.path.split("/")[1] for request in mirrored.files.requests} == {"kubernetes"}


def test_a_mirror_has_bundles_for_other_machines(mirrored: Published) -> None:
    assert create(mirrored, "--platform", "linux/arm64") == 0
    assert open_bundle(None, kubernetes_version=None, platform="linux/arm64").manifest.platform == "linux/arm64"


def test_a_bundle_is_made_here_and_used_where_there_is_no_network(
    mirrored: Published, cache_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert create(mirrored, "--to", "carried.tar") == 0
    shutil.rmtree(cache_folder)
    for arguments in (["build", "--from", "carried.tar"], ["verify"], ["images"]):
        assert apart(*arguments) == 0
    assert "registry.k8s.io/pause" in capfd.readouterr().out
    assert apart("create", "--source", "official") == 5
    assert "a bundle cannot be had from anywhere" in capfd.readouterr().err


def test_a_login_goes_to_the_mirror_and_into_no_message(
    mirrored: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = Reply(401, {"WWW-Authenticate": "Basic"})
    login = basic("me", "pass-word")
    mirrored.files.before = lambda request: None if request.headers.get("Authorization") == login else refusal
    logins = docker_config(mirrored.folder / "logins", mirrored.files.host, "me", "pass-word")
    assert create(mirrored) == 7
    assert create(mirrored, "--auth-file", str(logins)) == 0
    out, err = capsys.readouterr()
    assert "pass-word" not in out + err


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--source", "https://me:pass-word@mirror.example"], 2, "--auth-file"),
        (["--source", "https://me:pass/pass-word@mirror.example"], 2, "--auth-file"),
        (["--source", "https://[mirror.example"], 2, "https://mirror.example"),
        (["--source", "https://mirror.example:port"], 2, "https://mirror.example"),
        (["--source", "mirror.example"], 2, "https://mirror.example"),
        (["--registry", "https://registry.example"], 2, "--source"),
        (["--source", "https://mirror.example", "--registry", "registry"], 2, "--registry"),
        (["--auth-file", "none"], 3, "none"),
        (["--ca-file", "none"], 3, "none"),
        (["--lock", "broken"], 3, "broken is no lock file"),
        (["--platform", "linux/riscv64"], 2, "linux/arm64"),
    ],
)
def test_what_cannot_be_used_is_told(
    file_server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken").write_text('{"schemaVersion": 2}')
    monkeypatch.chdir(tmp_path)
    mirror = ["--source", file_server.url, "--ca-file", "ca.pem"] if options[0] == "--lock" else []
    assert cli.run(["bundle", "create", *mirror, *options]) == code
    err = capsys.readouterr().err
    assert told in err
    assert "pass-word" not in err
