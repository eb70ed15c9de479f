"""The virtual address: what keepalived and the proxy beside it are given on each control-plane host."""

from __future__ import annotations

import pytest
import yaml

from bootstrap import paths
from bootstrap.phases import INIT, JOIN, local_proxy, prepare, runtime, vip
from bootstrap.pki import LEAVES
from bootstrap.plan import build
from bootstrap.site import Facts, Link, Site
from bootstrap.steps import Absent, Command, File, Image
from tests.builders import node, site
from tests.phases.test_golden import same_as_golden


def virtual(masters: int, **endpoint: object) -> Site:
    members = []
    for number in range(1, masters + 1):
        address = f"192.0.2.{number}"
        facts = Facts(addresses=(address,), links=(Link("lo", "127.0.0.1", 8), Link("ens3", address, 24)))
        members.append(node(f"cp{number}", address=address, facts=facts))
    worker = node("worker", "worker", address="192.0.2.11")
    return site(*members, worker, cluster={"endpoint": {"kind": "vip", "address": "192.0.2.100", **endpoint}})


def written(described: Site, number: int = 0) -> dict[str, bytes]:
    return {step.path: step.data for step in vip.steps(described, described.nodes[number]) if isinstance(step, File)}


def peers(described: Site, number: int) -> list[str]:
    text = written(described, number)[paths.VIP_CONFIG].decode().partition("unicast_peer {")[2].partition("}")[0]
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_the_files_are_the_golden_ones() -> None:
    for path, data in written(virtual(3), 1).items():
        same_as_golden(f"vip/{path.rpartition('/')[2]}", data.decode())


def test_every_host_sends_to_every_other_and_a_single_one_to_none() -> None:
    assert [peers(virtual(3), number) for number in range(3)] == [
        ["192.0.2.2", "192.0.2.3"],
        ["192.0.2.1", "192.0.2.3"],
        ["192.0.2.1", "192.0.2.2"],
    ]
    # Without any peer keepalived would speak to all of the network.
    assert peers(virtual(1), 0) == ["127.0.0.1"]


def test_another_member_makes_other_pods_and_the_same_ones_do_not() -> None:
    three, again, five = written(virtual(3)), written(virtual(3)), written(virtual(5))
    assert three == again
    for manifest in (paths.VIP_MANIFEST, paths.PROXY_MANIFEST):
        assert three[manifest] != five[manifest]


def test_the_interface_is_the_node_addresss_unless_another_is_given() -> None:
    assert b"192.0.2.100/32 dev ens3\n" in written(virtual(1))[paths.VIP_CONFIG]
    assert b"192.0.2.100/32 dev bond0\n" in written(virtual(1, interface="bond0"))[paths.VIP_CONFIG]


def test_keepalived_may_change_addresses_send_and_start_its_check_and_nothing_else() -> None:
    (container,) = yaml.safe_load(written(virtual(3))[paths.VIP_MANIFEST])["spec"]["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SETGID"]}
    assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)


def test_the_proxy_beside_it_leads_to_the_api_servers_own_port() -> None:
    config = written(virtual(3))[local_proxy.CONFIG].decode()
    assert "    bind 0.0.0.0:8443\n" in config
    assert "    server cp3 192.0.2.3:6443\n" in config
    assert "monitor fail if !{ srv_is_up(api/cp1) }" in config


def test_the_address_is_in_the_api_servers_certificate() -> None:
    described = virtual(3)
    (leaf,) = (leaf for leaf in LEAVES if leaf.name == "apiserver")
    assert "192.0.2.100" in {str(name.value) for name in leaf.subject(described.cluster, described.nodes[0]).names}


@pytest.mark.parametrize(("number", "line"), [(0, "192.0.2.1"), (2, "192.0.2.3"), (3, "192.0.2.100")])
def test_workers_resolve_the_name_to_the_address_and_others_to_themselves(number: int, line: str) -> None:
    described = virtual(3)
    (step,) = prepare.hosts_steps(described, described.nodes[number])
    assert isinstance(step, Command)
    assert f"'{line} api.kubernetes.cluster.local'" in step.unless


def test_images_are_on_the_hosts_that_need_them() -> None:
    described = virtual(3)
    for member, needed in zip(described.nodes, (True, True, True, False), strict=True):
        found = {
            step.reference.rpartition("/")[2].partition(":")[0]
            for step in runtime.images_steps(described, member)
            if isinstance(step, Image)
        }
        assert ({"haproxy", "keepalived"} <= found) is needed
        assert bool({"haproxy", "keepalived"} & found) is needed


def test_of_another_kind_of_endpoint_nothing_of_it_is_left() -> None:
    described = site(node())
    (task,) = (task for task in build(INIT, described, nodes=described.nodes).tasks if task.phase.name == "vip")
    places = (paths.VIP_MANIFEST, paths.VIP_CONFIG, paths.PROXY_MANIFEST, local_proxy.CONFIG)
    assert task.steps == tuple(map(Absent, places))
    worker = virtual(3)
    (task,) = (task for task in build(JOIN, worker, nodes=worker.nodes[-1:]).tasks if task.phase.name == "local-proxy")
    assert task.steps == (Absent(paths.PROXY_MANIFEST), Absent(local_proxy.CONFIG))
