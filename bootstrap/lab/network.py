"""A lab's network: a free subnet, a bridge of podman's, and rules that let no traffic out of it."""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import locks
from bootstrap.lab.calls import call, podman

LABEL = "kubestrap.lab"
POOLS = tuple(IPv4Network(pool) for pool in ("10.88.0.0/13", "172.24.0.0/14", "192.168.128.0/17"))
"""Where subnets are taken from: below the Service network 10.96.0.0/12, apart from the Pod network 10.244.0.0/16."""

_ROUTES = Path("/proc/net/route")
_LEFT_BY_CNI = Path("/var/lib/cni/networks")


@dataclass(frozen=True, slots=True)
class Network:
    """The network of a lab. `bridge` is the host's interface on it."""

    name: str
    subnet: IPv4Network
    bridge: str

    @property
    def gateway(self) -> str:
        """The host's own address on it."""
        return str(self.subnet[1])


def name_of(lab: str) -> str:
    """Give the name of a lab's network, and of the table with its rules."""
    return f"kubestrap-{lab}"


def routed(table: str) -> Iterator[IPv4Network]:
    """Give the networks that /proc/net/route, as text, has routes for, but for default routes."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
        if mask:
            yield IPv4Network((destination, mask.bit_count()))


def free_subnet(used: Iterable[IPv4Network]) -> IPv4Network:
    """Give the first /24 of the pools that overlaps nothing in `used`. Raises `LabError` where there is none."""
    taken = list(used)
    for pool in POOLS:
        for subnet in pool.subnets(new_prefix=24):
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    pools = ", ".join(map(str, POOLS))
    raise LabError(f"no /24 of {pools} is free for the lab: routes or podman networks cover them all")


def rules(table: str, bridge: str) -> str:
    """Write the nftables table that rejects what goes from `bridge` to elsewhere, or to it from elsewhere.

    The host may open connections to machines, machines none to the host. A verdict of another table (podman's) to let
    a packet pass does not overrule a rejection here.
    """
    return f"""\
table inet {table} {{
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname "{bridge}" oifname "{bridge}" accept
    iifname "{bridge}" meta l4proto tcp reject with tcp reset
    iifname "{bridge}" reject with icmpx admin-prohibited
    oifname "{bridge}" meta l4proto tcp reject with tcp reset
    oifname "{bridge}" reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname "{bridge}" ct state established,related accept
    iifname "{bridge}" meta l4proto tcp reject with tcp reset
    iifname "{bridge}" reject with icmpx admin-prohibited
  }}
}}
"""


def ensure(lab: str) -> Network:
    """Give the lab's network, closed towards everything else; make what is missing of it."""
    with locks.locked(locks.FOLDER / "kubestrap-lab-networks", "choosing a network for a lab", seconds=120):
        network = find(lab)
        if network is None:
            subnet = free_subnet([*routed(_ROUTES.read_text(encoding="ascii")), *_podman_subnets()])
            podman(
                "network", "create", "--disable-dns", "--label", f"{LABEL}={lab}", f"--subnet={subnet}", name_of(lab)
            )
            network = find(lab)
    if network is None:
        raise LabError(f"podman made the network {name_of(lab)}, but does not list it")
    _close(network)
    return network


def find(lab: str) -> Network | None:
    """Give the lab's network where there is one."""
    answer = podman("network", "inspect", name_of(lab), any_status=True)
    if answer.status != 0:
        return None
    found = json.loads(answer.stdout)[0]
    return Network(found["name"], IPv4Network(found["subnets"][0]["subnet"]), found["network_interface"])


def labs() -> list[str]:
    """Name the labs that have a network."""
    answer = podman("network", "ls", "--filter", f"label={LABEL}", "--format", "json")
    return [network["labels"][LABEL] for network in json.loads(answer.stdout or "[]")]


def remove(lab: str) -> bool:
    """Take away the lab's network and rules; say whether there were any. Its machines must be gone."""
    name = name_of(lab)
    closed = call("nft", "list", "table", "inet", name, seconds=60, any_status=True).status == 0
    made = podman("network", "exists", name, any_status=True).status == 0
    if made:
        podman("network", "rm", "--force", name)
    if closed:
        call("nft", "delete", "table", "inet", name, seconds=60)
    shutil.rmtree(_LEFT_BY_CNI / name, ignore_errors=True)  # its address book, which podman forgets
    return made or closed


def _close(network: Network) -> None:
    """Put the rules in place, all at once; leave them where they are already for this bridge."""
    present = call("nft", "list", "table", "inet", network.name, seconds=60, any_status=True)
    if f'iifname "{network.bridge}"' in present.stdout:
        return
    # A table is named before it is deleted, so that deleting one that is not there is no error.
    start = f"table inet {network.name}\ndelete table inet {network.name}\n"
    call("nft", "-f", "-", seconds=60, stdin=start + rules(network.name, network.bridge))


def _podman_subnets() -> Iterator[IPv4Network]:
    names = podman("network", "ls", "--format", "{{.Name}}").stdout.split()
    # One by one: another user's network may go at any moment.
    for name in names:
        answer = podman("network", "inspect", name, any_status=True)
        for network in json.loads(answer.stdout or "[]"):
            for subnet in network.get("subnets") or ():
                address = ipaddress.ip_network(subnet["subnet"])
                if isinstance(address, IPv4Network):
                    yield address
