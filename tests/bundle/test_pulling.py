"""The bundle's containerd pulls from the distribution project's registry, by what the inventory says of registries."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import RegistryServer, basic, running_private_registry

from bootstrap import paths
from bootstrap.bundle import catalog
from bootstrap.bundle.gomodules import check_tools, compile_module, only_builder
from bootstrap.phases import registries
from bootstrap.spec import LocalFile, Logins
from bootstrap.steps import File
from tests.builders import site

pytestmark = pytest.mark.timeout(1800)  # the first one may have to build containerd, as the bundle has it

IMAGE = {"linux/amd64": (b"a layer",)}


@dataclass(frozen=True)
class Containerd:
    """A containerd of the test's own, with its client."""

    folder: Path
    programs: Path

    def pull(self, reference: str, hosts: Path) -> subprocess.CompletedProcess[str]:
        ctr = [self.programs / "ctr", "-a", self.folder / "sock"]
        command = [*ctr, "content", "fetch", "--hosts-dir", hosts, reference]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    module = catalog.module("containerd")
    with only_builder(print):
        programs = compile_module(module, module.programs, check_tools(), print)
    folder = tmp_path_factory.mktemp("containerd")
    (folder / "config.toml").write_text(
        f"version = 3\nroot = '{folder}/root'\nstate = '{folder}/state'\n"
        "disabled_plugins = ['io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri']\n"
        f"[plugins.'io.containerd.server.v1.grpc']\naddress = '{folder}/sock'\n"
        f"[plugins.'io.containerd.server.v1.ttrpc']\naddress = '{folder}/sock.ttrpc'\n"
    )
    with (folder / "log").open("wb") as log:
        command = [programs / "containerd", "--config", folder / "config.toml", "--address", folder / "sock"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + 60
        ask = [programs / "ctr", "-a", folder / "sock", "version"]
        while subprocess.run(ask, capture_output=True, timeout=60, check=False).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < limit, (folder / "log").read_text()
            time.sleep(0.2)
        yield Containerd(folder, programs)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def private(registry_program: Path, tmp_path: Path) -> Iterator[RegistryServer]:
    """A registry that wants a login, with a certificate of a CA of its own."""
    with running_private_registry(registry_program, tmp_path / "private") as server:
        server.push("k8s/pause", "3.10", IMAGE)
        yield server


def write(folder: Path, private: RegistryServer, *, login: bool = True) -> Path:
    """Write what a machine gets for a mirror of registry.k8s.io into `folder`, in place of its own."""
    settings = {
        "mirrors": {"registry.k8s.io": [f"{private.url}/k8s"], private.host: []},
        "authFile": Logins("logins", {private.host: basic("me", "secret")} if login else {}),
        "caFile": LocalFile("ca.pem", private.ca.read_bytes()),
    }
    for step in registries.steps(site(cluster={"registries": settings})):
        if isinstance(step, File):
            place = folder / step.path.removeprefix("/etc/containerd/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(step.data.replace(paths.REGISTRIES_CA.encode(), str(private.ca).encode()))
    return folder / "certs.d"


def test_an_image_comes_from_a_private_mirror(containerd: Containerd, private: RegistryServer, tmp_path: Path) -> None:
    pulled = containerd.pull("registry.k8s.io/pause:3.10", write(tmp_path / "etc", private))
    assert pulled.returncode == 0, pulled.stderr


def test_an_image_comes_from_a_private_registry(
    containerd: Containerd, private: RegistryServer, tmp_path: Path
) -> None:
    pulled = containerd.pull(f"{private.host}/k8s/pause:3.10", write(tmp_path / "etc", private))
    assert pulled.returncode == 0, pulled.stderr


def test_without_the_login_nothing_comes(containerd: Containerd, private: RegistryServer, tmp_path: Path) -> None:
    hosts = write(tmp_path / "etc", private, login=False)
    pulled = containerd.pull(f"{private.host}/k8s/pause:3.10", hosts)
    assert pulled.returncode != 0
    assert "no basic auth credentials" in pulled.stderr
