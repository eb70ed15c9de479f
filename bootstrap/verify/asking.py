"""What checks are made of: how machines are asked, and how answers are compared with what they should be.

Nothing here changes a machine or the cluster. Where something cannot be asked, what is raised says why.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from bootstrap import paths, values
from bootstrap.phases import static_pods
from bootstrap.verify.subject import Machine, Subject

KUBECTL = f"{paths.BINARIES}/kubectl"
CTR = f"{paths.BINARIES}/ctr --namespace k8s.io"
NOTICE = datetime.timedelta(days=30)
"""How long a certificate must still be valid, or a third of its whole life where that is less."""

# By the kernel's tables, as ss(8) may not be there: who holds each listening socket is told by /proc/*/fd.
LISTENERS = r"""{ ls -l /proc/[0-9]*/fd /dev/null 2>/dev/null; echo ==; cat /proc/net/tcp /proc/net/tcp6; } | awk '
/^==$/ { net = 1 }
!net && /^\// { pid = $0; sub(/\/fd:$/, "", pid); sub(/.*\//, "", pid) }
!net && /socket:\[/ { holder[$NF] = pid }
net && $4 == "0A" { n = split($2, part, ":"); print part[n], holder["socket:[" $10 "]"] }' | sort -u |
while read -r port pid; do echo "$port $(cat "/proc/$pid/comm" 2>/dev/null)"; done"""


def now() -> datetime.datetime:
    """Give the time by which certificates and events are judged: the operator's."""
    return datetime.datetime.now(datetime.UTC)


def said(text: str) -> str:
    """Give the last line of what a command said, for a message."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"


def read(machine: Machine, path: str) -> str:
    """Read a file; nothing where there is none."""
    return machine.run("cat -- %s", path).stdout


def read_certificate(machine: Machine, path: str) -> str:
    """Read the first certificate of a file, and not the key beside it."""
    return machine.run("sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p; /END CERTIFICATE/q' %s", path).stdout


def listeners(machine: Machine) -> Mapping[int, set[str]]:
    """Give the programs (the kernel's first 15 letters of their names) that listen on TCP ports."""
    found: dict[int, set[str]] = {}
    for line in machine.run(LISTENERS).stdout.splitlines():
        port, _, program = line.partition(" ")
        found.setdefault(int(port, 16), set()).add(program)
    return found


def unit(machine: Machine, name: str) -> Mapping[str, str]:
    """Give what systemd says of containerd and the kubelet, which it is asked for together."""
    wanted = "Id,ActiveState,UnitFileState,NeedDaemonReload"
    shown = machine.run(f"systemctl show --property {wanted} containerd.service kubelet.service").stdout
    for block in shown.split("\n\n"):
        state = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if state.get("Id") == f"{name}.service":
            return state
    return {}


def running(machine: Machine, component: str) -> bool:
    """Say whether a container of a static Pod's component runs."""
    tasks = machine.run(f"timeout 30 {CTR} tasks ls").stdout.splitlines()
    live = {row[0] for row in (line.split() for line in tasks) if row[-1:] == ["RUNNING"]}
    ours = machine.run(f"timeout 30 {CTR} containers ls --quiet %s", static_pods.container_filter(component))
    return bool(live & set(ours.stdout.split()))


def answers(machine: Machine, server: str, path: str) -> Iterator[str]:
    """Tell why a component's health is not well, asked from its machine."""
    # kubectl, as it is there while curl may not be; without credentials it would ask for a user where TLS is spoken.
    # Who answers on a loopback address is not checked (as with kubeadm): nobody signed those certificates.
    who = paths.ADMIN_CONF if server.startswith("https:") else "/dev/null"
    options = f"--kubeconfig {who} --insecure-skip-tls-verify --request-timeout 10s"
    asked = machine.run(f"timeout 20 {KUBECTL} {options} --server {server} get --raw {path}")
    if asked.rc:
        yield f"{server}{path}: {said(asked.stderr)}"


def refuses(machine: Machine, server: str, path: str) -> Iterator[str]:
    """Tell that somebody without any credentials is given `path`."""
    # A name and a password are what no component of Kubernetes reads any more; kubectl is content with them.
    nobody = "--kubeconfig /dev/null --username nobody --password none --insecure-skip-tls-verify"
    options = f"{nobody} --request-timeout 10s --server {server}"
    asked = machine.run(f"timeout 20 {KUBECTL} {options} get --raw {path}")
    if asked.rc == 0:
        yield f"{server}{path} is given to anybody"
    elif not any(word in asked.stderr for word in ("must be logged in", "nauthorized", "orbidden")):
        yield f"{server}{path}: {said(asked.stderr)}"


def get(machine: Machine, path: str, namespace: str = "") -> Any:
    """Read from the API, without leaving kubectl's cache behind. Raises `ValueError` with its words on failure.

    `path` is absolute, or a kind (and name) of the core or the apps group.
    """
    api = "/apis/apps/v1" if path.startswith(("deployments", "daemonsets")) else "/api/v1"
    where = f"{api}/namespaces/{namespace}/{path}" if namespace else f"{api}/{path}"
    asked = machine.run(
        f"{KUBECTL} --kubeconfig {paths.ADMIN_CONF} --request-timeout 20s get --raw %s",
        path if path.startswith("/") else where,
    )
    if asked.rc:
        raise ValueError(said(asked.stderr))
    return json.loads(asked.stdout)


def etcd(machine: Machine, call: str) -> Any:
    """Call etcd's gateway on its own machine. Raises `ValueError` with its words on failure."""
    pki = f"{paths.PKI}/etcd"
    who = f"--client-certificate {pki}/healthcheck-client.crt --client-key {pki}/healthcheck-client.key"
    options = f"--kubeconfig /dev/null --server https://127.0.0.1:2379 --certificate-authority {pki}/ca.crt {who}"
    asked = machine.run(f"echo '{{}}' | timeout 20 {KUBECTL} {options} create --raw {call} --filename -")
    if asked.rc:
        raise ValueError(said(asked.stderr))
    return json.loads(asked.stdout)


def modes(machine: Machine, wanted: Mapping[str, str]) -> Iterator[str]:
    """Tell which of the paths (or what links point to) are missing, of others, or of another mode."""
    places = " ".join(["%s"] * len(wanted))
    seen = machine.run(f"stat -L -c '%%a %%U %%n' -- {places}", *wanted).stdout.splitlines()
    held = {path: (mode, owner) for mode, owner, path in (line.split(" ", 2) for line in seen)}
    for path, mode in wanted.items():
        if path not in held:
            yield f"{path} is not there"
        elif held[path] != (mode, "root"):
            yield f"{path} has mode {held[path][0]} and is {held[path][1]}'s, not {mode} and root's"


def certificate(path: str, pem: str, ca_pem: str) -> Iterator[str]:
    """Tell what is wrong with a certificate that `ca_pem` should have signed."""
    if not pem or not ca_pem:
        yield f"{path} or its CA is not there"
        return
    own, ca = (x509.load_pem_x509_certificate(text.encode()) for text in (pem, ca_pem))
    try:
        own.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        yield f"{path} is not signed by its CA ({ca.subject.rfc4514_string()})"
    yield from valid(path, own)


def valid(path: str, own: x509.Certificate) -> Iterator[str]:
    """Tell that a certificate is not valid, or will soon not be."""
    end, begin = own.not_valid_after_utc, own.not_valid_before_utc
    if now() > end:
        yield f"{path} expired on {end:%Y-%m-%d}"
    elif now() < begin:
        yield f"{path} is valid from {begin:%Y-%m-%d %H:%M} on"
    elif end - now() < min(NOTICE, (end - begin) / 3):
        yield f"{path} expires on {end:%Y-%m-%d}"


def names(own: x509.Certificate) -> set[str]:
    """List the names and addresses that a certificate is for."""
    try:
        held = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))}


def plain(name: str) -> str:
    """Write a name or an address the one way in which certificates have it."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def kubeconfig(machine: Machine, path: str) -> Mapping[str, str]:
    """Read what is no secret of a kubeconfig with one cluster and one user: keys stay on the machine."""
    public = "server|certificate-authority-data|client-certificate|client-certificate-data|client-key"
    lines = machine.run(f"grep -E '^ *({public}): ' -- %s", path).stdout.splitlines()
    return {key.strip(): value.strip().strip("\"'") for key, _, value in (line.partition(":") for line in lines)}


def decoded(text: str) -> str:
    """Read what a kubeconfig or a Secret holds."""
    return b64decode(text).decode(errors="replace")


def unlike(wanted: Mapping[str, Any], found: object, where: str = "") -> Iterator[str]:
    """Tell each field of `wanted` that `found` has otherwise; what `found` has beside them does not matter."""
    held = found if isinstance(found, Mapping) else {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            yield from unlike(value, held.get(key), f"{where}{key}.")
        elif not _alike(value, held.get(key)):
            yield f"{where}{key} is {held.get(key)!r}, not {value!r}"


def _alike(wanted: object, found: object) -> bool:
    if isinstance(wanted, str) and isinstance(found, str) and _is_duration(wanted) and _is_duration(found):
        return values.seconds(wanted) == values.seconds(found)
    return wanted == found or (not wanted and not found)  # what is empty may be left out


def _is_duration(text: str) -> bool:
    return re.fullmatch(r"([0-9]+[hms])+", text) is not None


def own_certificates(subject: Subject) -> Mapping[str, str]:
    """Name the certificates of a machine that we signed, below the PKI's folder, each with its CA."""
    signed: dict[str, str] = {}
    if subject.host.is_control_plane:
        signed |= {"apiserver": "ca", "apiserver-kubelet-client": "ca", "front-proxy-client": "front-proxy-ca"}
    if subject.host in subject.inventory.etcd_members:
        signed |= dict.fromkeys(("etcd/server", "etcd/peer", "etcd/healthcheck-client"), "etcd/ca")
    if subject.host.is_control_plane and not subject.cluster.etcd.external:
        signed["apiserver-etcd-client"] = "etcd/ca"
    return signed


def is_proxied(subject: Subject) -> bool:
    """Say whether the machine has a proxy of its own: to several control planes, or behind a virtual address."""
    if subject.host.is_control_plane:
        return has_virtual_address(subject)
    return subject.inventory.is_proxied and subject.host.is_worker


def has_virtual_address(subject: Subject) -> bool:
    """Say whether the machine is one of those that hold the endpoint's virtual address in turn."""
    return bool(subject.cluster.virtual_address) and subject.host.is_control_plane


def components(subject: Subject) -> Sequence[str]:
    """Name the static Pods of a machine of the control plane or of etcd."""
    etcds = ("etcd",) if subject.host in subject.inventory.etcd_members else ()
    planes = ("kube-apiserver", "kube-controller-manager", "kube-scheduler") if subject.host.is_control_plane else ()
    return (*etcds, *planes)
