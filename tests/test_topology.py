from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bootstrap import members, paths, topology
from bootstrap.errors import HostError, NotSupported
from bootstrap.site import Facts, Node
from bootstrap.spec import Inventory

EXTERNAL = {"endpoints": ["https://192.0.2.9:2379"], "caFile": "/a", "certFile": "/b", "keyFile": "/c"}
SHARED = [f"{paths.PKI}/{name}" for name in ("ca.crt", "front-proxy-ca.crt", "sa.key", "etcd/ca.crt")]
OF_PLANE = dict.fromkeys([*SHARED, paths.ADMIN_CONF], b"held")
OF_ETCD = {
    f"{paths.PKI}/etcd/ca.crt": b"held",
    members.MANIFEST: b"- --initial-cluster=etcd1=https://192.0.2.51:2380\n",
}


def inventory(*roles: str, **cluster: Any) -> Inventory:
    counts = dict.fromkeys(roles, 0)
    hosts = []
    for role in roles:
        counts[role] += 1
        name = f"{'cp' if role == 'control-plane' else role}{counts[role]}"
        hosts.append({"name": name, "address": f"192.0.2.{10 + len(hosts)}", "roles": [role]})
    return Inventory.model_validate({"cluster": cluster, "hosts": hosts})


def looked_at(given: Inventory, **files: dict[str, bytes]) -> list[Node]:
    addresses = {"etcd1": "192.0.2.51"}
    return [
        Node(host, addresses.get(host.name, str(host.address)), Facts(files=files[host.name]))
        for host in given.hosts
        if host.name in files
    ]


def names(nodes: Sequence[Node]) -> list[str]:
    return [node.name for node in nodes]


def test_a_control_plane_stands_where_both_it_and_etcd_are_told_of() -> None:
    given = inventory("control-plane", "etcd", "etcd")
    assert topology.stands(given, looked_at(given, cp1=OF_PLANE, etcd1=OF_ETCD))
    assert not topology.stands(given, looked_at(given, cp1=OF_PLANE, etcd1={}))
    assert not topology.stands(given, looked_at(given, cp1={}, etcd1=OF_ETCD))
    external = inventory("control-plane", etcd={"external": EXTERNAL})
    assert topology.stands(external, looked_at(external, cp1=OF_PLANE))


def test_hosts_of_both_kinds_are_settled() -> None:
    given = inventory("control-plane", "etcd")
    assert names(topology.settled(given, looked_at(given, cp1={}, etcd1={})).nodes) == ["cp1", "etcd1"]
    external = inventory("control-plane", etcd={"external": EXTERNAL})
    assert names(topology.settled(external, looked_at(external, cp1={})).nodes) == ["cp1"]


def test_the_members_of_etcds_own_hosts_stay_the_same() -> None:
    given = inventory("control-plane", "etcd", "etcd")
    with pytest.raises(NotSupported, match="etcd1"):
        topology.settled(given, looked_at(given, cp1=OF_PLANE, etcd1=OF_ETCD, etcd2={}))


def test_a_control_plane_that_is_not_reached_needs_an_address() -> None:
    given = inventory("control-plane", "control-plane", "etcd")
    with pytest.raises(HostError, match="cp2: it is not reached"):
        topology.settled(given, looked_at(given, cp1=OF_PLANE, etcd1=OF_ETCD))


@pytest.mark.parametrize(
    ("servers", "roles", "cluster", "told"),
    [
        (b"https://127.0.0.1:2379", ("control-plane", "etcd"), {}, "is on the control plane's hosts"),
        (b"https://127.0.0.1:2379", ("control-plane",), {"etcd": {"external": EXTERNAL}}, "has it elsewhere"),
        (b"https://192.0.2.51:2379", ("control-plane",), {}, r"is elsewhere \(https://192.0.2.51:2379\)"),
    ],
)
def test_no_etcd_takes_the_place_of_another(
    servers: bytes, roles: tuple[str, ...], cluster: dict[str, Any], told: str
) -> None:
    given = inventory(*roles, **cluster)
    held = {topology.API_SERVER: b"    - --etcd-servers=" + servers + b"\n"}
    with pytest.raises(NotSupported, match=told):
        topology.settled(given, looked_at(given, cp1=held, etcd1={}))


def test_an_external_etcd_may_have_other_endpoints() -> None:
    given = inventory("control-plane", etcd={"external": EXTERNAL})
    held = {topology.API_SERVER: b"    - --etcd-servers=https://192.0.2.8:2379\n"}
    assert names(topology.settled(given, looked_at(given, cp1=held)).nodes) == ["cp1"]
