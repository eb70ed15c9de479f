"""The PKI's files on hosts of the control plane and of etcd, known before planning (kubeadm: phases/certs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bootstrap import paths
from bootstrap.plan import On, Phase
from bootstrap.steps import Absent, Directory, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

_CAS = {
    "ca": ("ca", "the cluster's certificate authority"),
    "front-proxy-ca": ("front-proxy-ca", "the front proxy's certificate authority"),
    "etcd-ca": ("etcd/ca", "etcd's certificate authority"),
}
_LEAVES = {
    "apiserver": ("apiserver", "the API server's serving certificate"),
    "apiserver-kubelet-client": ("apiserver-kubelet-client", "the API server's certificate for kubelets"),
    "front-proxy-client": ("front-proxy-client", "the front proxy's client certificate"),
    "etcd-server": ("etcd/server", "etcd's serving certificate"),
    "etcd-peer": ("etcd/peer", "the certificate by which etcd's members know each other"),
    "etcd-healthcheck-client": ("etcd/healthcheck-client", "the client certificate for looking after etcd"),
    "apiserver-etcd-client": ("apiserver-etcd-client", "the API server's certificate for etcd"),
}
# API servers know etcd by its CA, whose key is where its members are.
_WHERE: Mapping[str, On] = {
    "etcd-ca": "control-plane, etcd",
    **dict.fromkeys(("etcd-server", "etcd-peer", "etcd-healthcheck-client"), "etcd"),
}
_ORDER = (
    "ca",
    "apiserver",
    "apiserver-kubelet-client",
    "front-proxy-ca",
    "front-proxy-client",
    "etcd-ca",
    "etcd-server",
    "etcd-peer",
    "etcd-healthcheck-client",
    "apiserver-etcd-client",
)


def _pair(file: str, what: str, *, key_may_lack: bool) -> Callable[[Site, Node], Iterator[Step]]:
    def steps(site: Site, node: Node) -> Iterator[Step]:
        files = site.files[node.name]
        certificate, key = f"{paths.PKI}/{file}.crt", f"{paths.PKI}/{file}.key"
        if node.host.is_etcd:
            yield Directory(paths.PKI)  # noted as ours, as reset takes away only what is
        yield Directory(certificate.rpartition("/")[0])
        # The key first: from a key alone `pki.complete` makes its certificate, so a run killed here is finished by the
        # next. A CA whose key is kept elsewhere is in use without it (kubeadm's external CA mode).
        if key_may_lack and site.cluster.ca_directory:
            yield Absent(key)
        elif not key_may_lack or key in files:
            yield File(key, files[key], mode=0o600, secret=True)
        yield File(certificate, files[certificate], mode=0o644)

    steps.__doc__ = f"Write {what} and its key."
    return steps


def sa_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the key pair that signs and checks service account tokens."""
    files = site.files[node.name]
    yield Directory(paths.PKI)
    yield File(f"{paths.PKI}/sa.key", files[f"{paths.PKI}/sa.key"], mode=0o600, secret=True)
    yield File(f"{paths.PKI}/sa.pub", files[f"{paths.PKI}/sa.pub"], mode=0o600)


def _phase(name: str) -> Phase:
    file, what = _CAS[name] if name in _CAS else _LEAVES[name]
    return Phase(
        f"certs/{name}",
        _WHERE.get(name, "control-plane"),
        _pair(file, what, key_may_lack=name in _CAS),
    )


CERTS = (*(_phase(name) for name in _ORDER), Phase("certs/sa", "control-plane", sa_steps))
