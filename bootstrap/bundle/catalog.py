"""What a bundle is made of: the Go modules and their programs, where each goes, and the images.

Versions stand in one place only, the `go.mod` of each module under `modules/`; `{version}` below is that, without v.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap import paths

MODULES = Path(__file__).parent / "modules"
PLATFORM = "linux/amd64"
PLATFORMS = (PLATFORM, "linux/arm64")
IMAGE_BINARIES = "/usr/local/bin"


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module of ours that pins one component; `main` is the component's own module, whose version it has.

    `programs` are packages by the name of the program. `variables` are set by the linker. With `cgo` the programs
    are linked statically against the C library. Its folder, with `go.mod` and `go.sum`, is in `home`.
    """

    name: str
    main: str
    programs: Mapping[str, str]
    variables: Mapping[str, str]
    cgo: bool = False
    tags: str = ""
    home: Path = MODULES

    @property
    def folder(self) -> Path:
        """Where its `go.mod` is."""
        return self.home / self.name

    @property
    def version(self) -> str:
        """The component's version, without v, as `go.mod` pins it."""
        required = re.search(
            rf"^(?:require)?\s*{re.escape(self.main)} v(\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE
        )
        if required is None:
            raise LookupError(f"{self.folder}/go.mod does not require {self.main}")
        return required[1]

    @property
    def go_version(self) -> tuple[int, ...]:
        """The oldest Go that can build it."""
        line = re.search(r"^go (\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE)
        if line is None:
            raise LookupError(f"{self.folder}/go.mod has no go line")
        return tuple(map(int, line[1].split(".")))


@dataclass(frozen=True, slots=True)
class Image:
    """An image of programs of one module, or of nothing but layers where `module` is empty.

    `files` are paths in the image by the program's name, each in a layer of its own, above the layers `tools`: names
    in `bootstrap.bundle.debian`. The first file is the entry point; without files it is a layer's program of this name.
    """

    name: str
    repository: str
    tag: str
    module: str
    files: Mapping[str, str]
    tools: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""


_KUBERNETES_VERSION = {
    f"{package}.{name}": value
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in (
        ("gitVersion", "v{version}"),
        ("gitMajor", "{major}"),
        ("gitMinor", "{minor}"),
        ("gitCommit", ""),  # a module of the proxy does not say it
        ("gitTreeState", "clean"),
        ("buildDate", "1970-01-01T00:00:00Z"),
    )
}
_PLUGINS = "github.com/containernetworking/plugins/plugins"
_CONTAINERD = "github.com/containerd/containerd/v2"

GO_MODULES = (
    Module(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            "agnhost": "k8s.io/kubernetes/test/images/agnhost",
        },
        _KUBERNETES_VERSION,
    ),
    Module(
        "containerd",
        _CONTAINERD,
        {
            "containerd": f"{_CONTAINERD}/cmd/containerd",
            "containerd-shim-runc-v2": f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
            "ctr": f"{_CONTAINERD}/cmd/ctr",
        },
        {f"{_CONTAINERD}/version.Version": "{version}"},
    ),
    # Without the seccomp tag runc refuses every Pod that has a profile, and the control plane's have one.
    Module(
        "runc",
        "github.com/opencontainers/runc",
        {"runc": "github.com/opencontainers/runc"},
        {},
        cgo=True,
        tags="seccomp netgo osusergo",
    ),
    Module(
        "cni-plugins",
        "github.com/containernetworking/plugins",
        {
            "bandwidth": f"{_PLUGINS}/meta/bandwidth",
            "bridge": f"{_PLUGINS}/main/bridge",
            "firewall": f"{_PLUGINS}/meta/firewall",
            "host-local": f"{_PLUGINS}/ipam/host-local",
            "loopback": f"{_PLUGINS}/main/loopback",
            "portmap": f"{_PLUGINS}/meta/portmap",
        },
        {"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "v{version}"},
    ),
    # The plug-in's newer home cannot be fetched as a module; this is its last version in the old one.
    Module(
        "flannel-cni",
        "github.com/containernetworking/plugins",
        {"flannel": f"{_PLUGINS}/meta/flannel"},
        {"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "v{version}"},
    ),
    Module(
        "etcd",
        "go.etcd.io/etcd/server/v3",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
            "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
        },
        {},
    ),
    Module("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}, {}),
    Module(
        "flannel",
        "github.com/flannel-io/flannel",
        {"flanneld": "github.com/flannel-io/flannel"},
        {"github.com/flannel-io/flannel/pkg/version.Version": "v{version}"},
        cgo=True,
    ),
)
TEST_PROGRAMS = {"kubeadm": ("kubernetes", "k8s.io/kubernetes/cmd/kubeadm")}
"""Programs that tests compare with; no machine ever gets them."""

BINARIES = (
    ("kubernetes", "kubelet", paths.BINARIES),
    ("kubernetes", "kubectl", paths.BINARIES),
    ("containerd", "containerd", paths.BINARIES),
    ("containerd", "containerd-shim-runc-v2", paths.BINARIES),
    ("containerd", "ctr", paths.BINARIES),
    ("runc", "runc", paths.BINARIES),
    ("cni-plugins", "bandwidth", paths.CNI_BINARIES),
    ("cni-plugins", "bridge", paths.CNI_BINARIES),
    ("cni-plugins", "firewall", paths.CNI_BINARIES),
    ("cni-plugins", "host-local", paths.CNI_BINARIES),
    ("cni-plugins", "loopback", paths.CNI_BINARIES),
    ("cni-plugins", "portmap", paths.CNI_BINARIES),
    ("flannel-cni", "flannel", paths.CNI_BINARIES),
)
"""Module, program, and the folder on a machine that it goes to."""


def _component(name: str, *, tools: tuple[str, ...] = ()) -> Image:
    files = {name: f"{IMAGE_BINARIES}/{name}"}
    return Image(name, f"registry.k8s.io/{name}", "v{version}", "kubernetes", files, tools)


IMAGES = (
    _component("kube-apiserver"),
    _component("kube-controller-manager"),
    _component("kube-scheduler"),
    _component("kube-proxy", tools=("iptables",)),
    Image(
        "etcd",
        "registry.k8s.io/etcd",
        "{version}-0",
        "etcd",
        {name: f"{IMAGE_BINARIES}/{name}" for name in ("etcd", "etcdctl", "etcdutl")},
    ),
    Image(
        "coredns",
        "registry.k8s.io/coredns/coredns",
        "v{version}",
        "coredns",
        {"coredns": "/coredns"},
        user="65532:65532",
    ),
    Image(
        "pause",
        "registry.k8s.io/pause",
        "3.10.2",
        "kubernetes",
        {"pause": "/pause"},
        user="65535:65535",
    ),
    Image(
        "flannel",
        "ghcr.io/flannel-io/flannel",
        "v{version}",
        "flannel",
        {"flanneld": "/opt/bin/flanneld"},
        tools=("iptables", "cp"),
    ),
    # Debian's, whatever its version; the manifest names the program, as the upstream image of this name would need it.
    Image(
        "haproxy",
        "docker.io/library/haproxy",
        "2.6",
        "",
        {},
        tools=("haproxy",),
        user="65534:65534",
    ),
    # Debian's, too. No image of keepalived is known everywhere; this one has its program, and bash, at the same places.
    Image(
        "keepalived",
        "docker.io/osixia/keepalived",
        "2.2",
        "",
        {},
        tools=("keepalived",),
    ),
    # The tag is what test/images/agnhost/VERSION says in the module (a test compares).
    Image(
        "agnhost",
        "registry.k8s.io/e2e-test-images/agnhost",
        "2.66.1",
        "kubernetes",
        {"agnhost": "/agnhost"},
        command=("pause",),
    ),
)
REQUIRED = (*(f"{where}/{name}" for _, name, where in BINARIES), *(f"image {image.name}" for image in IMAGES))
"""What every bundle must hold: the paths of programs, and `image NAME`."""


def module(name: str) -> Module:
    """Give the module `name`."""
    return next(module for module in GO_MODULES if module.name == name)


def kubernetes_version() -> str:
    """Give the version of Kubernetes that the modules pin, without v."""
    return module("kubernetes").version
