"""A cluster that began with one control-plane machine grows to three, is broken meanwhile, and ends as three voters.

The tests go on from each other, on machines of their own. Costs about 4 min.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import kills
from tests.lab.clusters import KUBECTL, Cluster, changes, members
from tests.lab.conftest import lab_of

MASTERS = ("cp1", "cp2", "cp3")
EVERY = (*MASTERS, "worker1")
CUT_OFF = """
table inet cut {
    chain in { type filter hook input priority -300; iifname lo accept; tcp dport 22 accept; drop; }
    chain out { type filter hook output priority -300; oifname lo accept; tcp sport 22 accept; drop; }
}
"""
"""What leaves a machine nothing but its own and the operator's way to it."""
SHOWN = "find /etc/kubernetes /etc/hosts -type f -exec cksum {} + | sort"


@pytest.fixture(scope="module")
def grown(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one control-plane machine and a worker, and two machines that are only prepared."""
    with lab_of("grow", machines=4, control_planes=3, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("grow"))
        cluster.write_inventory(["cp1", "worker1"])
        cluster.kubestrap("init")
        cluster.kubestrap("join")
        yield cluster


def _broken_etcd(data: dict[str, Any]) -> None:
    data["cluster"]["etcd"] = {"local": {"extraArgs": [{"name": "no-such-flag", "value": "1"}]}}


def _impatient(data: dict[str, Any]) -> None:
    data["cluster"]["timeouts"] = {"etcdAPICall": "15s"}


def _voters(cluster: Cluster) -> list[str]:
    return sorted(one["name"] for one in members(cluster, "cp1")["members"] if not one.get("isLearner"))


def _listed(cluster: Cluster, machine: str) -> set[str]:
    manifest = cluster.on(machine, "cat /etc/kubernetes/manifests/etcd.yaml")
    found = re.search(r"--initial-cluster=(\S+)", manifest)
    assert found
    return {entry.partition("=")[0] for entry in found[1].split(",")}


def test_init_tells_of_hosts_that_are_to_join_and_leaves_them_alone(grown: Cluster) -> None:
    grown.write_inventory(EVERY)
    told = grown.kubestrap("init").stderr
    for name in ("cp2", "cp3"):
        assert re.search(rf"{name}.*it is not a member of the control plane", told)
        assert grown.ssh(name, "test -e /etc/kubernetes/manifests/etcd.yaml").returncode
    assert changes(told) == []


def test_r4_a_member_that_does_not_start_is_taken_out_again_and_the_next_is_not_begun(grown: Cluster) -> None:
    before = {name: grown.on(name, SHOWN) for name in ("cp1", "worker1")}
    grown.write_inventory(EVERY, _broken_etcd)
    told = grown.kubestrap("join", "--limit", "cp2,cp3", status=1).stderr
    assert "it does not know the flag --no-such-flag" in told
    assert "Its etcd member was taken out of the cluster again: mend it, and join again" in told
    assert "cp3: it is left as it was: hosts go in turn, and cp2 failed" in told
    assert [one["name"] for one in members(grown, "cp1")["members"]] == ["cp1"]
    assert grown.ssh("cp2", "test -e /etc/kubernetes/manifests/etcd.yaml || test -e /var/lib/etcd/member").returncode
    assert {name: grown.on(name, SHOWN) for name in before} == before


def test_f2_a_killed_join_of_a_control_plane_is_finished(grown: Cluster) -> None:
    grown.write_inventory(EVERY)
    with grown.start("join") as run:
        kills.until(run, r"cp2\s+etcd-join")
        grown.on("cp2", "timeout 60 sh -c 'until [ -e /var/lib/etcd/member ]; do sleep 0.1; done'")
        run.kill()
        run.wait(60)
    grown.kubestrap("join", "--limit", "cp2")
    assert _voters(grown) == ["cp1", "cp2"]


def test_f24_one_that_is_cut_off_while_another_joins_costs_nothing_but_another_join(grown: Cluster) -> None:
    grown.write_inventory(EVERY, _impatient)
    cluster_id = members(grown, "cp1")["header"]["cluster_id"]
    with grown.start("join") as run:
        begun = "until [ -e /etc/kubernetes/manifests/etcd.yaml ]; do sleep 0.05; done"
        grown.on("cp3", f"timeout 120 sh -c '{begun}'")
        grown.on("cp2", "nft -f -", stdin=CUT_OFF)
        _, told = run.communicate(timeout=300)
    assert run.returncode
    assert "cp3: " in told
    assert "Its etcd member is a learner still" in told, told[-3000:]
    grown.on("cp2", "nft delete table inet cut")
    grown.on("cp1", f"until {KUBECTL} get --raw /readyz; do sleep 1; done", seconds=120)
    assert _voters(grown) == ["cp1", "cp2"]

    grown.write_inventory(EVERY)
    grown.kubestrap("join")
    for name in MASTERS:
        seen = members(grown, name)
        assert seen["header"]["cluster_id"] == cluster_id
        assert sorted(one["name"] for one in seen["members"]) == list(MASTERS)
        assert not any(one.get("isLearner") for one in seen["members"])
        assert len(_listed(grown, name)) > 1, "it would begin a cluster of its own where its data are gone"
    grown.wait_ready(EVERY)
    server = grown.on("worker1", "sed -n 's/^ *server: //p' /etc/kubernetes/kubelet.conf").strip()
    name = server.removeprefix("https://").removesuffix(":6443")
    assert grown.on("worker1", f"getent ahostsv4 {name}").startswith("127.0.0.1 ")
    taints = grown.kubectl("get nodes -o jsonpath='{.items[*].spec.taints[*].key}'").split()
    assert taints.count("node-role.kubernetes.io/control-plane") == 3
    # All but that nothing was started again: the first member was, and who has its leases in etcd may have been.
    grown.verify_but("restarts")


def test_f4_nothing_is_changed_by_a_second_run(grown: Cluster) -> None:
    before = {machine: grown.containers(machine) for machine in EVERY}
    assert changes(grown.kubestrap("join").stderr) == []
    assert changes(grown.kubestrap("init").stderr) == []
    assert {machine: grown.containers(machine) for machine in EVERY} == before


def test_r6_a_run_that_ended_before_the_first_member_knew_of_the_others_is_finished(grown: Cluster) -> None:
    manifest = "/etc/kubernetes/manifests/etcd.yaml"
    alone = f"s#--initial-cluster=.*#--initial-cluster=cp1=https://{grown.lab.machine('cp1').address}:2380#"
    grown.on("cp1", f"cp {manifest} /root/ && sed -i '{alone}' /root/etcd.yaml && mv /root/etcd.yaml {manifest}")
    assert _listed(grown, "cp1") == {"cp1"}
    # What a kubelet puts off, as it ended while there was no quorum, is started at once.
    changed = [change for change in changes(grown.kubestrap("join").stderr) if "put off" not in change]
    assert changed == [f"{manifest}: updated"]
    assert _listed(grown, "cp1") == set(MASTERS)


def test_r3_two_runs_do_not_add_members_at_the_same_time(grown: Cluster) -> None:
    lease = grown.get("lease -n kube-system kubestrap-control-plane")
    assert not lease["spec"].get("holderIdentity"), "it was given back"


def test_f22_what_was_the_only_member_is_rebuilt_as_a_learner_where_its_data_are_gone(grown: Cluster) -> None:
    before = members(grown, "cp2")
    grown.on("cp1", "mv /etc/kubernetes/manifests/etcd.yaml /root/")
    grown.on("cp1", "while pgrep -x etcd; do sleep 0.2; done; rm -rf /var/lib/etcd/member", seconds=120)
    grown.on("cp1", "mv /root/etcd.yaml /etc/kubernetes/manifests/")
    told = grown.kubestrap("init").stderr
    assert "the data of its etcd member are gone" in told
    grown.kubestrap("join")
    after = members(grown, "cp1")
    assert after["header"]["cluster_id"] == before["header"]["cluster_id"]
    assert sorted(one["name"] for one in after["members"]) == list(MASTERS)
    assert {one["ID"] for one in after["members"]} != {one["ID"] for one in before["members"]}
    assert not any(one.get("isLearner") for one in after["members"])
    assert grown.on("cp1", f"{KUBECTL} get --raw /readyz").strip() == "ok"


def test_a_proxy_ends_as_soon_as_it_is_told_to(grown: Cluster) -> None:
    # A watch of the kubelet's goes through it. Who does not heed it is killed after 30 s, until when nothing changes.
    told = "proxy=$(pgrep -o -x haproxy) && kill -TERM $proxy && timeout 10 tail --pid $proxy --follow /dev/null"
    grown.on("worker1", told)
