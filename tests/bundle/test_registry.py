"""Pulling from the distribution project's registry, and from servers that stand before it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from servers import (
    MANIFEST,
    FileServer,
    RegistryServer,
    Reply,
    Request,
    basic,
    docker_config,
    running_private_registry,
    running_registry,
    token,
)

from bootstrap.bundle import credentials
from bootstrap.bundle.download import Client, DownloadFailed, Limits, LoginRefused, NotThere, WrongDigest
from bootstrap.bundle.registry import Registry

pytestmark = pytest.mark.timeout(1800)  # the first one may have to build the registry

LAYERS = (b"one layer" * 1000, b"another")
IMAGE = {"linux/amd64": LAYERS, "linux/arm64": (b"of the other kind",)}
QUICK = Limits(silence=5, attempts=2, pause=0.01)


def client(server: RegistryServer, logins: Path | None = None) -> Client:
    return Client(credentials.read(logins) if logins else None, ca=server.ca, limits=QUICK)


@dataclass(frozen=True)
class Saved:
    """An image that was pulled, as its files by name."""

    digest: str
    files: dict[str, bytes]

    @property
    def layers(self) -> list[bytes]:
        manifest = json.loads(self.files[f"blobs/sha256/{self.digest.removeprefix('sha256:')}"])
        return [self.files[f"blobs/{layer['digest'].replace(':', '/')}"] for layer in manifest["layers"]]


def pull(
    registry: Registry, folder: Path, *, reference: str = "1.0", platform: str = "linux/amd64", repository: str = "app"
) -> Saved:
    found = registry.find(repository, reference, platform)
    (folder / "blobs").mkdir(exist_ok=True)
    registry.save(found, "registry.example/app:1.0", platform, folder / "blobs", folder / "app.tar")
    with tarfile.open(folder / "app.tar") as tar:
        read = ((member.name, tar.extractfile(member)) for member in tar if member.isreg())
        files = {name: file.read() for name, file in read if file is not None}
    return Saved(found.digest, files)


@pytest.mark.parametrize("platform", IMAGE)
def test_an_image_comes_for_its_platform(registry: RegistryServer, tmp_path: Path, platform: str) -> None:
    registry.push("app", "1.0", IMAGE)
    saved = pull(Registry(client(registry), registry.url), tmp_path, platform=platform)
    assert saved.layers == list(IMAGE[platform])
    (described,) = json.loads(saved.files["index.json"])["manifests"]
    assert described["digest"] == saved.digest
    assert described["annotations"]["io.containerd.image.name"] == "registry.example/app:1.0"
    assert f"{described['platform']['os']}/{described['platform']['architecture']}" == platform


def test_an_image_comes_by_its_digest(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push("app", "1.0", IMAGE)
    tagged = pull(Registry(client(registry), registry.url), tmp_path)
    registry.push("app", "1.0", {"linux/amd64": (b"pushed over it",)})
    assert pull(Registry(client(registry), registry.url), tmp_path, reference=tagged.digest).layers == list(LAYERS)


def test_the_same_image_gives_the_same_bytes(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push("app", "1.0", IMAGE)
    pull(Registry(client(registry), registry.url), tmp_path)
    before = (tmp_path / "app.tar").read_bytes()
    pull(Registry(client(registry), registry.url), tmp_path)
    assert (tmp_path / "app.tar").read_bytes() == before


def test_a_path_of_the_registry_stands_before_repositories(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push("mirror/of/app", "1.0", IMAGE)
    assert pull(Registry(client(registry), f"{registry.url}/mirror/of"), tmp_path).layers == list(LAYERS)


def test_an_image_that_is_not_there_is_named(registry: RegistryServer, tmp_path: Path) -> None:
    with pytest.raises(NotThere, match=r"/v2/app/manifests/1\.0"):
        pull(Registry(client(registry), registry.url), tmp_path)


def test_a_platform_that_is_not_there_is_named(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push("app", "1.0", {"linux/arm64": LAYERS})
    with pytest.raises(DownloadFailed, match="not there for linux/amd64"):
        pull(Registry(client(registry), registry.url), tmp_path)


def test_a_layer_that_was_altered_is_refused(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push("app", "1.0", IMAGE)
    registry.blob(hashlib.sha256(LAYERS[0]).hexdigest()).write_bytes(LAYERS[0][:-1] + b"x")
    with pytest.raises(WrongDigest):
        pull(Registry(client(registry), registry.url), tmp_path)
    assert not (tmp_path / "app.tar").exists()


def test_a_manifest_that_was_altered_is_refused(file_server: FileServer, tmp_path: Path) -> None:
    altered = {
        "Content-Type": "application/vnd.oci.image.manifest.v1+json",
        "Docker-Content-Digest": "sha256:" + "0" * 64,
    }
    file_server.before = lambda _: Reply(200, altered, b"{}")
    with pytest.raises(WrongDigest, match="0000"):
        pull(Registry(Client(ca=tmp_path / "ca.pem"), file_server.url), tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        b"<html>",
        b"[]",
        b'{"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}',
        json.dumps({"mediaType": MANIFEST}).encode(),
        json.dumps({"mediaType": MANIFEST, "config": {"digest": "../x", "size": 1}, "layers": []}).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(file_server: FileServer, tmp_path: Path, document: bytes) -> None:
    file_server.files["/v2/app/manifests/1.0"] = document
    with pytest.raises(DownloadFailed, match=r"manifests/.*it (is no manifest|has the form)"):
        pull(Registry(Client(ca=tmp_path / "ca.pem"), file_server.url), tmp_path)


@pytest.fixture
def guarded(registry_program: Path, tmp_path: Path) -> Iterator[RegistryServer]:
    with running_private_registry(registry_program, tmp_path / "guarded") as server:
        server.push("app", "1.0", IMAGE)
        yield server


def test_a_registry_gets_its_login(guarded: RegistryServer, tmp_path: Path) -> None:
    logins = docker_config(tmp_path / "logins", guarded.host, "me", "secret")
    assert pull(Registry(client(guarded, logins), guarded.url), tmp_path).layers == list(LAYERS)


def test_a_registry_refuses_a_wrong_login(guarded: RegistryServer, tmp_path: Path) -> None:
    logins = docker_config(tmp_path / "logins", guarded.host, "me", "guessed")
    with pytest.raises(LoginRefused, match="401"):
        pull(Registry(client(guarded, logins), guarded.url), tmp_path)


@pytest.fixture
def token_server(file_server: FileServer) -> FileServer:
    """A server that gives tokens for any repository to `me`, and for `public` to everybody."""

    def give(request: Request) -> Reply:
        asked = parse_qs(request.query)
        kind, name, actions = asked["scope"][0].split(":")
        known = request.headers.get("Authorization") == basic("me", "secret")
        if request.path != "/token" or asked["service"] != ["test"]:
            return Reply(404)
        if "Authorization" in request.headers and not known:
            return Reply(401)
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if known or name == "public" else []
        return Reply(body=json.dumps({"token": token(access, issuer="tests", audience="test")}).encode())

    file_server.before = give
    return file_server


@pytest.fixture
def by_token(registry_program: Path, token_server: FileServer, tmp_path: Path) -> Iterator[RegistryServer]:
    auth = (
        f"auth: {{token: {{realm: '{token_server.url}/token', service: test, issuer: tests, "
        f"rootcertbundle: {tmp_path}/ca.pem}}}}\n"
    )
    access = [{"type": "repository", "name": name, "actions": ["pull", "push"]} for name in ("app", "public")]
    own = token(access, issuer="tests", audience="test")
    with running_registry(registry_program, tmp_path / "token", auth=auth, authorization=f"Bearer {own}") as server:
        server.push("app", "1.0", IMAGE)
        server.push("public", "1.0", IMAGE)
        yield server


def test_a_token_is_got_with_the_login_of_the_registry(
    by_token: RegistryServer, token_server: FileServer, tmp_path: Path
) -> None:
    logins = docker_config(tmp_path / "logins", by_token.host, "me", "secret")
    assert pull(Registry(client(by_token, logins), by_token.url), tmp_path).layers == list(LAYERS)
    assert len(token_server.requests) == 1


def test_a_token_for_everybody_is_got_without_a_login(by_token: RegistryServer, tmp_path: Path) -> None:
    registry = Registry(client(by_token), by_token.url)
    assert pull(registry, tmp_path, repository="public").layers == list(LAYERS)
    with pytest.raises(LoginRefused, match="--auth-file"):
        pull(registry, tmp_path, repository="app")


def test_a_login_that_gets_no_token_is_told_for_its_registry(by_token: RegistryServer, tmp_path: Path) -> None:
    logins = docker_config(tmp_path / "logins", by_token.host, "me", "guessed")
    with pytest.raises(LoginRefused, match=by_token.host):
        pull(Registry(client(by_token, logins), by_token.url), tmp_path)


def test_layers_that_are_kept_elsewhere_are_followed(
    registry: RegistryServer, file_server: FileServer, tmp_path: Path
) -> None:
    registry.push("app", "1.0", IMAGE)
    file_server.before = lambda request: Reply(307, {"Location": f"{registry.url}{request.path}"})
    assert pull(Registry(client(registry), file_server.url), tmp_path).layers == list(LAYERS)
