"""What a machine needs before anything of Kubernetes: kernel modules, sysctls, no swap, the endpoint's name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bootstrap.phases import kubelet, local_proxy
from bootstrap.steps import Command, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

MODULES_FILE = "/etc/modules-load.d/kubestrap.conf"
SYSCTL_FILE = "/etc/sysctl.d/90-kubestrap.conf"
SYSCTLS = {"net.bridge.bridge-nf-call-iptables": "1", "net.ipv4.ip_forward": "1"}
"""What Services and Pod networks need of the kernel (kubeadm-facts section 6)."""

# What a module does is asked for, not whether it is loaded: kernels without modules have both built in.
_HAVE_MODULES = "grep -qw overlay /proc/filesystems && [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]"
_LOAD_MODULES = f"""
for module in overlay br_netfilter; do modprobe "$module" || true; done
{_HAVE_MODULES} || {{ echo 'this kernel has not both of overlay and br_netfilter: install its modules' >&2; exit 1; }}
"""

_NO_SWAP = r"""
awk 'NR > 1 { found = 1 } END { exit found }' /proc/swaps &&
! awk '$1 !~ /^#/ && $3 == "swap" { found = 1 } END { exit !found }' /etc/fstab 2>/dev/null &&
systemctl list-unit-files --type=swap --no-legend | awk '$2 != "masked" { found = 1 } END { exit found }'
"""
_STOP_SWAP = r"""
set -e
if awk '$1 !~ /^#/ && $3 == "swap" { found = 1 } END { exit !found }' /etc/fstab 2>/dev/null; then
    file=$(readlink -f /etc/fstab)
    new=${file%/*}/.fstab.kubestrap
    cp -a "$file" "$new"
    awk '$1 !~ /^#/ && $3 == "swap" { printf "# kubestrap: " } { print }' "$file" > "$new"
    mv "$new" "$file"
fi
swapoff -a
systemctl daemon-reload
systemctl list-unit-files --type=swap --no-legend | while read -r unit state rest; do
    [ "$state" = masked ] || systemctl mask --now "$unit"
done
awk 'NR > 1 { print "still in use as swap: " $1; found = 1 } END { exit found }' /proc/swaps >&2
"""

# A container on the machine's network has a copy of /etc/hosts, made when it started; the kubelet starts another one.
_UNAWARE = """for comm in /proc/[0-9]*/comm; do
  [ "$(cat "$comm" 2>/dev/null)" = kube-proxy ] || continue
  [ ! -e "${comm%comm}root/etc/hosts" ] || grep -qxF "$line" "${comm%comm}root/etc/hosts" || basename "${comm%/comm}"
done"""
_OURS = r"""awk '/^# BEGIN kubestrap$/ { ours = 1; next } /^# END kubestrap$/ { ours = 0 } ours' /etc/hosts"""
_OTHERS = r"""awk '/^# BEGIN kubestrap$/ { ours = 1 } !ours { print } /^# END kubestrap$/ { ours = 0 }' "$file" """


def modules_steps(_: Site, node: Node) -> Iterator[Step]:
    """Load the kernel modules overlay and br_netfilter, now and at boot."""
    if node.host.is_etcd:
        return  # no Pod there has a network of its own
    yield File(MODULES_FILE, b"overlay\nbr_netfilter\n")
    yield Command("kernel modules overlay and br_netfilter", run=_LOAD_MODULES, unless=_HAVE_MODULES)


def sysctls_steps(_: Site, node: Node) -> Iterator[Step]:
    """Let the kernel forward packets and show bridged ones to iptables, now and at boot."""
    if node.host.is_etcd:
        return
    lines = "".join(f"{name} = {value}\n" for name, value in SYSCTLS.items())
    yield File(SYSCTL_FILE, lines.encode())
    # Not by sysctl(8), which minimal machines lack.
    wanted = [(value, f"/proc/sys/{name.replace('.', '/')}") for name, value in SYSCTLS.items()]
    yield Command(
        "sysctls",
        run="set -e\n" + "".join(f"echo {value} > {file}\n" for value, file in wanted),
        unless=" && ".join(f'[ "$(cat {file})" = {value} ]' for value, file in wanted),
    )


def swap_steps(site: Site, node: Node) -> Iterator[Step]:
    """Turn swap off, now and at boot, unless the kubelet is told to bear it (failSwapOn: false)."""
    if kubelet.host_config(site.cluster, node.host).get("failSwapOn", True):
        yield Command("no swap", run=_STOP_SWAP, unless=_NO_SWAP)


def hosts_steps(site: Site, node: Node) -> Iterator[Step]:
    """Make the endpoint's name known in /etc/hosts: as the control plane where it runs, or else the way there."""
    if node.host.is_control_plane:
        address = node.address
    elif site.is_proxied:
        address = local_proxy.ADDRESS
    else:
        address = site.cluster.virtual_address or site.endpoint_address
    if node.host.is_etcd or site.cluster.endpoint.kind == "external" or not address or local_proxy.is_kept(site, node):
        return
    server = site.joining.server if site.joining else ""
    name = urlsplit(server).hostname or site.cluster.endpoint_name
    line = shlex.quote(f"{address} {name}")
    yield Command(
        f"{name} in /etc/hosts",
        # The old file is there until the new one is whole, with the same mode, owner and label.
        run=f"""
set -e
[ -e /etc/hosts ] || : > /etc/hosts
file=$(readlink -f /etc/hosts)
new=${{file%/*}}/.hosts.kubestrap
cp -a "$file" "$new"
{_OTHERS} > "$new"
printf '%s\\n' '# BEGIN kubestrap' {line} '# END kubestrap' >> "$new"
mv "$new" "$file"
""",
        unless=f'[ "$({_OURS})" = {line} ]',
    )
    if node.host.is_worker and node.facts.bootstrapped and not site.cluster.kube_proxy.disabled:
        yield Command(
            f"kube-proxy knows {name}",
            run=f'line={line}\n{_UNAWARE} | while read -r pid; do kill "$pid"; done',
            unless=f'line={line}\n[ -z "$({_UNAWARE})" ]',
        )
