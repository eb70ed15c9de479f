"""Three control planes of which two are lost: writes are refused, one goes on alone (F21); state is on the machines.

The tests go on from each other, on machines of their own. Costs about 4 min.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from bootstrap.lab import machines
from tests.lab.clusters import Cluster, changes
from tests.lab.conftest import lab_of

MASTERS = ("cp1", "cp2", "cp3")
CA = "/etc/kubernetes/pki/ca.crt"
RECOVER = ("etcd", "recover", "--yes", "--dead", "cp2,cp3")


@pytest.fixture(scope="module")
def three(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three control planes that serve, without add-ons, and a snapshot of their etcd with one of two ConfigMaps."""
    with lab_of("recover", machines=3, control_planes=3, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("recover"))
        cluster.write_inventory(MASTERS)
        cluster.kubestrap("init", "--skip-phases", "addon")
        cluster.kubectl("create configmap older --from-literal=a=b")
        cluster.kubestrap("etcd", "snapshot", "save", cluster.home / "etcd.db")
        cluster.kubectl("create configmap newer --from-literal=a=b")
        yield cluster


def maps(cluster: Cluster, *, namespace: str = "default") -> set[str]:
    listed = cluster.kubectl(f"-n {namespace} get configmaps -o name")
    return {line.removeprefix("configmap/") for line in listed.split()} - {"kube-root-ca.crt"}


def members(cluster: Cluster) -> dict[str, dict[str, object]]:
    said = cluster.kubestrap("etcd", "status", "--output", "json", status=None).stdout
    (data,) = (line["data"] for line in map(json.loads, said.splitlines()) if line["event"] == "result")
    return {each["host"]: each for each in data["members"]}


def forced(cluster: Cluster) -> str:
    return cluster.on("cp1", "grep -r -l force-new-cluster /etc/kubernetes || :")


def test_f37_another_operator_has_all_he_needs_from_the_machines(
    three: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Cluster(three.lab, tmp_path_factory.mktemp("other"))
    other.write_inventory(MASTERS)
    assert changes(other.kubestrap("init", "--skip-phases", "addon").stderr) == []
    assert "client-key-data" in other.kubestrap("kubeconfig").stdout
    assert other.kubestrap("token", "create").stdout
    assert len(members(other)) == 3


def test_f37_control_planes_that_disagree_on_a_ca_are_named_both(three: Cluster) -> None:
    three.on("cp2", f"cp -a {CA} /root/ca.crt && cp /etc/kubernetes/pki/front-proxy-ca.crt {CA}")
    try:
        for command in (("init",), ("token", "create")):
            told = three.kubestrap(*command, status=3).stderr
            assert f"cp2: {CA} differs from that on cp1" in told
    finally:
        three.on("cp2", f"cp -a /root/ca.crt {CA} && rm /root/ca.crt")


def test_f21_without_a_quorum_writes_are_refused_with_who_is_missing_and_what_to_do(three: Cluster) -> None:
    refused = three.kubestrap("etcd", "recover", "--yes", status=1).stderr
    assert "etcd has a quorum, so that there is nothing to recover" in refused
    for name in MASTERS[1:]:
        machines.cut_power(three.lab.name, name)
    three.on("cp1", "sleep 3")
    for command in (("token", "create"), ("init",), ("etcd", "defrag"), ("etcd", "alarms", "disarm")):
        told = three.kubestrap(*command, status=13).stderr
        assert "etcd has no quorum" in told, command
        assert "cp1: its member answers, and has no leader" in told
        assert "cp2: " in told
        assert "2 of its 3 members must run" in told
        assert "`kubestrap etcd recover`" in told
    assert list(members(three)) == ["cp1"]
    assert "client-key-data" in three.kubestrap("kubeconfig").stdout
    page = three.home / "status.html"
    shown = three.kubestrap("status", "--output", "json", "--html", page, status=8).stdout
    (found,) = (line["data"] for line in map(json.loads, shown.splitlines()) if line["event"] == "result")
    assert {host["name"]: host["reached"] for host in found["hosts"]} == {"cp1": True, "cp2": False, "cp3": False}
    assert found["hosts"][0]["node"] == "unknown"
    assert any("no API server is ready" in problem for problem in found["problems"]), found["problems"]
    assert "no API server is ready" in page.read_text()


def test_f21_a_survivor_goes_on_alone_also_after_a_run_that_was_killed(three: Cluster) -> None:
    before = members(three)["cp1"]["cluster"]
    told = three.kubestrap("etcd", "recover", "--yes", status=2).stderr
    assert "--dead cp2,cp3" in told
    with three.start(*RECOVER, "--output", "json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout
        assert any('"what":"stopped"' in line.replace(" ", "") for line in run.stdout)
        time.sleep(1.5)  # it is made alone meanwhile
        run.send_signal(signal.SIGKILL)
    refused = three.kubestrap("init", status=3).stderr
    assert "cp1: its etcd is being recovered" in refused
    said = three.kubestrap(*RECOVER)
    assert "kubestrap-before-" in said.stderr
    assert maps(three) == {"older", "newer"}
    (alone,) = members(three).values()
    assert (alone["cluster"], alone["leader"]) == (before, True)
    assert forced(three) == ""
    assert three.on("cp1", "ls -A /etc/kubernetes/recovery 2>/dev/null || :") == ""
    assert three.on("cp1", "grep -c cp3=https /etc/kubernetes/manifests/etcd.yaml").strip() == "1"
    three.kubestrap("token", "create")
    assert "nothing to recover" in three.kubestrap(*RECOVER, status=1).stderr


def test_those_that_were_lost_form_no_second_cluster_when_they_come_back(three: Cluster) -> None:
    for name in MASTERS[1:]:
        machines.start(three.lab.name, name)
    machines.wait(three.lab.name, [three.lab.machine(name) for name in MASTERS[1:]])
    for name in MASTERS[1:]:
        three.on(
            name,
            "for i in $(seq 90); do cat /var/log/pods/kube-system_etcd-*/etcd/*.log | "
            "grep -q 'has been permanently removed' && exit; sleep 1; done; exit 1",
        )
    assert list(members(three)) == ["cp1"]
    assert "cp2: the former data are in" in three.kubestrap("etcd", "recover", "--yes").stderr
    for name in MASTERS[1:]:
        assert three.on(name, "ls /etc/kubernetes/manifests; ls -d /var/lib/etcd/member 2>/dev/null || :") == ""
        assert three.on(name, "ls -d /var/lib/etcd/kubestrap-before-*/member").strip()
    ask = "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/kubelet.conf --request-timeout 5s get --raw /readyz"
    for name in MASTERS[1:]:
        assert three.ssh(name, ask).returncode != 0


def test_a_snapshot_takes_the_place_of_what_there_is_only_when_told_to(three: Cluster) -> None:
    restore = ("etcd", "recover", "--yes", "--snapshot", three.home / "etcd.db")
    version = int(three.get("configmap newer")["metadata"]["resourceVersion"])
    assert "newer than the snapshot" in three.kubestrap(*restore, status=1).stderr
    three.kubestrap(*restore, "--force")
    assert maps(three) == {"older"}
    three.kubectl("create configmap newest --from-literal=a=b")
    assert int(three.get("configmap newest")["metadata"]["resourceVersion"]) > version
    assert list(members(three)) == ["cp1"]


def test_a_member_that_was_left_alone_is_one_of_three_again_by_a_join(three: Cluster) -> None:
    three.kubestrap("join")
    found = members(three)
    assert list(found) == list(MASTERS)
    assert len({each["cluster"] for each in found.values()}) == 1
    assert not any(each["learner"] for each in found.values())
    assert maps(three) == {"older", "newest"}
