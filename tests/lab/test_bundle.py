"""The real bundle in the cache (`kubestrap bundle build`): what is built is right, and is built the same again.

Costs about a minute and 2.5 GB of disk for a while; no machines. It runs programs of the bundle, as root.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bootstrap.bundle import Bundle, cache, catalog, open_bundle
from bootstrap.bundle.build import build
from bootstrap.bundle.gomodules import GoModules
from bootstrap.bundle.manifest import ImageFile
from bootstrap.phases import vip
from bootstrap.site import Facts, Link
from tests.builders import node, site

IMAGES = [image.name for image in catalog.IMAGES]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(None, kubernetes_version=catalog.kubernetes_version())


def listed(bundle: Bundle, name: str) -> ImageFile:
    return next(file for file in bundle.manifest.files if isinstance(file, ImageFile) and file.name == name)


def unpack(bundle: Bundle, image: ImageFile, to: Path) -> Mapping[str, Any]:
    """Put the image's files into the folder `to`, checking every digest on the way, and give its configuration."""
    with bundle.open(image.sha256) as blob, tarfile.open(fileobj=blob, mode="r:") as archive:

        def read(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
            file = archive.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))
            assert file is not None
            data = file.read()
            assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            document: Mapping[str, Any] = json.loads(data)
            return document

        index = archive.extractfile("index.json")
        assert index is not None
        (descriptor,) = json.loads(index.read())["manifests"]
        assert descriptor["digest"] == image.target
        assert descriptor["annotations"]["io.containerd.image.name"] == image.reference
        manifest = read(descriptor)
        config = read(manifest["config"])
        assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        for layer in manifest["layers"]:
            name = "blobs/" + layer["digest"].replace(":", "/")
            data = archive.extractfile(name)
            assert data is not None
            assert layer["digest"] == f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"
            data.seek(0)
            with tarfile.open(fileobj=data, mode="r:") as files:
                files.extractall(to, filter="fully_trusted")
    process: Mapping[str, Any] = config["config"]
    return process


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_a_second_build_compiles_nothing_and_gives_the_same_digests(bundle: Bundle, tmp_path: Path) -> None:
    lines: list[str] = []
    again = build(GoModules(), tmp_path / "again", lines.append)
    assert again.manifest == bundle.manifest
    compiled = [*(module.name for module in catalog.GO_MODULES), "pause"]
    assert [f"{name}: unchanged" for name in compiled] == [line for line in lines if not line.startswith("images ")]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_whole_and_its_entry_point_is_there(bundle: Bundle, tmp_path: Path, name: str) -> None:
    process = unpack(bundle, listed(bundle, name), tmp_path)
    entry, (path,) = process["Entrypoint"][0], [value for value in process["Env"] if value.startswith("PATH=")]
    found = [tmp_path / folder[1:] / entry for folder in path.removeprefix("PATH=").split(":")]
    program = tmp_path / entry[1:] if entry.startswith("/") else next(place for place in found if place.exists())
    assert program.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("name", ["kube-proxy", "flannel"])
def test_the_firewall_tools_run_inside_of_an_image(bundle: Bundle, tmp_path: Path, name: str) -> None:
    unpack(bundle, listed(bundle, name), tmp_path)
    for tool in ("iptables", "ip6tables", "iptables-save", "iptables-restore"):
        assert "nf_tables" in output("chroot", str(tmp_path), f"/usr/sbin/{tool}", "--version")
    # An extension is a library that is loaded when it is named.
    assert "comment match options" in output("chroot", str(tmp_path), "/usr/sbin/iptables", "-m", "comment", "--help")
    assert "nftables v" in output("chroot", str(tmp_path), "/usr/sbin/nft", "--version")
    assert "conntrack-tools" in output("chroot", str(tmp_path), "/usr/sbin/conntrack", "--version")
    assert "ipset v" in output("chroot", str(tmp_path), "/usr/sbin/ipset", "--version")
    assert "kmod version" in output("chroot", str(tmp_path), "/usr/sbin/modprobe", "--version")


def test_the_proxys_image_runs_the_version_of_its_tag(bundle: Bundle, tmp_path: Path) -> None:
    image = listed(bundle, "haproxy")
    unpack(bundle, image, tmp_path)
    tag = image.reference.rpartition(":")[2]
    assert f"HAProxy version {tag}." in output("chroot", str(tmp_path), "haproxy", "-v")


def test_keepaliveds_image_reads_our_configuration_and_has_a_shell(bundle: Bundle, tmp_path: Path) -> None:
    image = listed(bundle, "keepalived")
    unpack(bundle, image, tmp_path)
    (tmp_path / "dev").mkdir(exist_ok=True)
    member = node(facts=Facts(links=(Link("lo", "192.0.2.10", 24),)))
    described = site(member, cluster={"endpoint": {"kind": "vip", "address": "192.0.2.100"}})
    assert described.cluster.endpoint.kind == "vip"
    (tmp_path / "vip.conf").write_text(vip.configuration(described, member, described.cluster.endpoint))
    said = output("chroot", str(tmp_path), "keepalived", "--config-test", "--use-file=/vip.conf")
    assert "rror" not in said
    assert output("chroot", str(tmp_path), "/bin/bash", "-c", "echo shell") == "shell\n"


def test_flannels_image_can_copy_files_as_its_init_containers_do(bundle: Bundle, tmp_path: Path) -> None:
    unpack(bundle, listed(bundle, "flannel"), tmp_path)
    output("chroot", str(tmp_path), "/bin/cp", "-f", "/etc/passwd", "/tmp/copy")
    assert (tmp_path / "tmp" / "copy").read_bytes() == (tmp_path / "etc" / "passwd").read_bytes()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kubelet", ("--version",)),
        ("kubectl", ("version", "--client")),
        ("containerd", ("--version",)),
        ("ctr", ("--version",)),
        ("runc", ("--version",)),
        ("bridge", ()),
        ("flannel", ()),
    ],
)
def test_a_program_tells_the_version_in_the_manifest(
    bundle: Bundle, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    file = next(file for file in bundle.manifest.files if file.kind == "binary" and file.name == name)
    program = tmp_path / name
    with bundle.open(file.sha256) as blob:
        program.write_bytes(blob.read())
    program.chmod(0o755)
    assert file.version in output(str(program), *arguments)


def test_runc_has_seccomp(bundle: Bundle, tmp_path: Path) -> None:
    file = next(file for file in bundle.manifest.files if file.name == "runc")
    program = tmp_path / "runc"
    with bundle.open(file.sha256) as blob:
        program.write_bytes(blob.read())
    program.chmod(0o755)
    assert "libseccomp" in output(str(program), "--version")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kube-apiserver", ("--version",)),
        ("kube-controller-manager", ("--version",)),
        ("kube-scheduler", ("--version",)),
        ("kube-proxy", ("--version",)),
        ("etcd", ("--version",)),
        ("coredns", ("-version",)),
        ("flannel", ("--version",)),
    ],
)
def test_an_image_runs_the_version_in_the_manifest(
    bundle: Bundle, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    image = listed(bundle, name)
    process = unpack(bundle, image, tmp_path)
    assert image.version in output("chroot", str(tmp_path), *process["Entrypoint"], *arguments)


def test_agnhosts_tag_is_the_one_of_its_sources(bundle: Bundle) -> None:
    sources = cache.folder() / "go" / "mod" / "k8s.io" / f"kubernetes@v{catalog.kubernetes_version()}"
    version = (sources / "test" / "images" / "agnhost" / "VERSION").read_text().strip()
    assert listed(bundle, "agnhost").reference.endswith(f":{version}")
