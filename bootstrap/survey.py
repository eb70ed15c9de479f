"""Looking at a machine before anything is planned: its facts, and what it holds of the cluster's identity."""

from __future__ import annotations

import base64
from importlib import resources
from shlex import quote

from bootstrap import paths
from bootstrap.errors import HostError
from bootstrap.site import Facts, Link
from bootstrap.spec import Host as Machine
from bootstrap.transport.base import Host

READ_BACK = (
    paths.PKI,
    paths.ADMIN_CONF,
    paths.SUPER_ADMIN_CONF,
    paths.KUBELET_CONF,
    paths.KUBELET_CLIENT_ISSUED,
    paths.CONTROLLER_MANAGER_CONF,
    paths.SCHEDULER_CONF,
    f"{paths.MANIFESTS}/etcd.yaml",
    paths.VIP_CONFIG,
    f"{paths.MANIFESTS}/kube-apiserver.yaml",
)
"""What of a control-plane machine is read back before anything new is drawn."""
READ_BACK_ETCD = (f"{paths.PKI}/etcd", f"{paths.MANIFESTS}/etcd.yaml")
"""What of a machine of etcd's own is read back."""
READ_BACK_WORKER = (f"{paths.PKI}/ca.crt", paths.KUBELET_CONF, paths.KUBELET_CLIENT_ISSUED, paths.PROXY_MANIFEST)
"""What of a worker is read back: which cluster it belongs to, if any, and how it reaches it."""

_SECONDS = 60.0
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def read_back(machine: Machine) -> tuple[str, ...]:
    """Say what is read back of a machine of this role."""
    if machine.is_etcd:
        return READ_BACK_ETCD
    return READ_BACK_WORKER if machine.is_worker else READ_BACK


def look(host: Host, read_back: tuple[str, ...], *, etcd_data: str = "") -> Facts:
    """Give the facts of one machine, in one round trip, changing nothing.

    `architecture` is Go's name where Kubernetes has it. Addresses are those of scope global, without those of Pod
    networks and container bridges. `etcd_data` is where an etcd member's data would be, if its manifest does not
    tell. Raises `HostError` where the machine's answer makes no sense.
    """
    given = f"etcd_data={quote(etcd_data)}\n".encode()
    script = given + resources.files("bootstrap").joinpath("survey.sh").read_bytes()
    result = host.run(f"sh -s {' '.join(map(quote, read_back))}", stdin=script, seconds=_SECONDS)
    lines = result.stdout.splitlines()
    if result.status != 0 or not lines or not lines[-1].startswith(b"end\t"):
        text = result.stderr.decode(errors="replace").strip() or "it said nothing"
        raise HostError(host.name, f"the machine could not be looked at (status {result.status}): {text}")
    return parse(lines)


def parse(lines: list[bytes]) -> Facts:
    """Read what the script wrote."""
    several: dict[str, list[str]] = {"address": [], "ca-folder": [], "link": []}
    single: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for line in lines:
        kind, _, rest = line.decode(errors="surrogateescape").partition("\t")
        if kind == "file":
            path, _, text = rest.partition("\t")
            files[path] = base64.b64decode(text)
        elif kind in several:
            several[kind].append(rest)
        else:
            single[kind] = rest
    machine = single.get("architecture", "")
    return Facts(
        architecture=_ARCHITECTURES.get(machine, machine),
        addresses=tuple(dict.fromkeys(several["address"])),
        links=tuple(map(_link, several["link"])),
        hostname=single.get("hostname", ""),
        machine=single.get("machine", ""),
        bootstrapped="bootstrapped" in single,
        etcd_data="etcd-data" in single,
        recovering="recovering" in single,
        resolved="resolved" in single,
        ca_folders=tuple(several["ca-folder"]),
        files=files,
    )


def _link(text: str) -> Link:
    interface, _, address = text.partition("\t")
    plain, _, prefix = address.partition("/")
    # Of two ends of a tunnel the machine's own has no prefix.
    return Link(interface, plain, int(prefix or (128 if ":" in plain else 32)))
