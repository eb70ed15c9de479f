"""containerd, runc and the CNI plug-ins of the bundle, and the images the host needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootstrap import paths
from bootstrap.phases import registries
from bootstrap.render import merge, render, to_toml
from bootstrap.site import BLOBS
from bootstrap.steps import Binary, Command, Directory, File, Image, Server, Step, Unit, Wait

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.spec import Host

CONTAINERD = f"{paths.BINARIES}/containerd"
CTR = f"{paths.BINARIES}/ctr"
_KUBELET_BINARIES = (f"{paths.BINARIES}/kubelet", f"{paths.BINARIES}/kubectl")
_CONTROL_PLANE_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

# `ctr plugins ls` has the columns type, id, platforms, status. A containerd that answers has loaded all that it will.
_ANSWERS = f"""
plugins=$({CTR} plugins ls) || exit 1
echo "$plugins" | awk '
    $1 == "io.containerd.grpc.v1" && $2 == "cri" {{ state = $NF }}
    END {{
        if (state == "ok") exit 0
        print "containerd runs without its CRI plug-in, which the kubelet needs: it is " (state ? state : "absent")
        exit 2
    }}'
"""
# A kubelet that ended while it pulled an image takes that image, once it is there, for one that needs credentials: it
# asks the registry before each start (kubelet/images/pullmanager, KEP-2535), and where there is none, no Pod starts.
# What we bring is preloaded. Notes of images that were pulled with credentials are left alone.
_PULLS = f"""
pulls() {{
    set -- {paths.KUBELET}/image_manager/*/*
    [ -e "$1" ] || return 0
    {CTR} --namespace k8s.io images ls | awk '
        /io\\.cri-containerd\\.pinned=pinned/ {{ pinned[$3] = 1 }}
        {{ target[$1] = $3 }}
        END {{ for (name in target) if (target[name] in pinned) print "\\"" name "\\"" }}' |
        grep -l -F -f - -- "$@" | xargs -r grep -L credentialMapping --
    return 0
}}
"""
_LOG = f"""
if disabled=$(grep -n '^ *disabled_plugins *= *..*cri' {paths.CONTAINERD_CONFIG}); then
    echo 'What to do: take cri out of disabled_plugins in cluster.containerd.config and run the command again'
    echo "{paths.CONTAINERD_CONFIG}:$disabled"
fi
echo 'containerd says:'
journalctl --quiet --unit containerd --lines 300 --no-pager --output cat |
    grep -E 'level=(error|fatal)' | tail -n 5 | cut -c 1-200
"""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """Fields of templates/runtime/containerd.service.j2."""

    binaries: str = paths.BINARIES


def config(site: Site, host: Host) -> dict[str, Any]:
    """Give containerd's configuration (its config version 3), the inventory's put upon ours table by table."""
    runc = {
        "runtime_type": "io.containerd.runc.v2",
        "options": {"BinaryName": f"{paths.BINARIES}/runc", "SystemdCgroup": True},
    }
    ours = {
        "version": 3,
        "plugins": {
            "io.containerd.cri.v1.images": {
                "pinned_images": {"sandbox": site.image("pause")},
                "registry": {"config_path": paths.REGISTRIES},
            },
            "io.containerd.cri.v1.runtime": {
                "cni": {"bin_dirs": [paths.CNI_BINARIES], "conf_dir": paths.CNI_CONFIG},
                "containerd": {"default_runtime_name": "runc", "runtimes": {"runc": runc}},
            },
        },
    }
    return merge(merge(ours, site.cluster.containerd.config), host.containerd.config)


def server(site: Site) -> Server | None:
    """Give the server from which machines fetch what is in the bundle; None where it is sent to them."""
    given = site.cluster.bundle
    if given.url is None:
        return None
    return Server(f"{given.url.rstrip('/')}/{BLOBS}", given.ca_file.data if given.ca_file else b"")


def runtime_steps(site: Site, node: Node) -> Iterator[Step]:
    """Install and start containerd, with runc and the CNI plug-ins."""
    for folder in (paths.CNI_BINARIES, paths.CNI_CONFIG, paths.REGISTRIES):
        yield Directory(folder)
    binaries = [binary for binary in site.contents.binaries if binary.path not in _KUBELET_BINARIES]
    for binary in binaries:
        yield Binary(binary.path, binary.digest, binary.size, server=server(site))
    yield File(paths.CONTAINERD_CONFIG, to_toml(config(site, node.host)).encode())
    yield File(paths.CONTAINERD_UNIT, render("runtime/containerd.service.j2", UnitFile()).encode())
    yield from registries.steps(site)
    uses = (CONTAINERD, paths.CONTAINERD_CONFIG, paths.CONTAINERD_UNIT)
    yield Unit("containerd.service", uses=(*uses, paths.CONTAINERD_PROXY) if registries.proxy(site) else uses)
    yield Wait("containerd to answer", until=_ANSWERS, seconds=60, explain=_LOG)


def _images(site: Site, node: Node) -> Iterator[str]:
    cluster = site.cluster
    yield "pause"
    if site.runs_etcd(node):
        yield "etcd"
    if node.host.is_etcd:
        return  # it is no Node, and no other Pod comes to it
    if site.is_proxied and not node.host.is_control_plane:
        yield "haproxy"
    if cluster.virtual_address and node.host.is_control_plane:
        yield "haproxy"
        yield "keepalived"
    if node.host.is_control_plane:
        yield from _CONTROL_PLANE_IMAGES
    if not cluster.kube_proxy.disabled:
        yield "kube-proxy"
    if not cluster.addons.coredns.disabled:
        yield "coredns"
    if cluster.addons.cni == "flannel":
        yield "flannel"
    yield "agnhost"


def images_steps(site: Site, node: Node) -> Iterator[Step]:
    """Import the images that may run on the host, so that none has to be pulled."""
    for name in _images(site, node):
        image = site.contents.image(name)
        yield Image(image.reference, image.target, image.digest, image.size, server(site))
    yield Command(
        "no memory of pulling these images",
        unless=f'{_PULLS}[ -z "$(pulls)" ]',
        run=f"""{_PULLS}
active=$(systemctl is-active kubelet.service)
systemctl stop kubelet.service
pulls | xargs -r rm -f --
case $active in active | activating) systemctl start kubelet.service ;; esac""",
    )
