from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bootstrap import paths
from bootstrap.phases import INIT, JOIN, local_proxy, prepare
from bootstrap.plan import build
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import Absent, Command, File, Wait
from tests.builders import node, site
from tests.phases.test_golden import same_as_golden


def highly_available(masters: int, **cluster: object) -> Site:
    members = [node(f"cp{number}", address=f"192.0.2.{number}") for number in range(1, masters + 1)]
    return site(*members, node("worker", "worker", address="192.0.2.11"), cluster=cluster)


def hosts_line(described: Site, member: Node) -> str:
    (step,) = prepare.hosts_steps(described, member)
    assert isinstance(step, Command)
    return step.unless.rpartition(" = ")[2].strip("'\" ]")


def proxy_files(described: Site) -> Iterator[File]:
    return (step for step in local_proxy.steps(described, described.nodes[-1]) if isinstance(step, File))


@pytest.mark.parametrize("masters", [3, 5])
def test_every_members_manifest_lists_all_and_is_the_golden_one(masters: int) -> None:
    described = highly_available(masters)
    for number, member in enumerate(described.control_plane, 1):
        (data,) = (
            step.data
            for task in build(INIT, described, nodes=described.control_plane).tasks
            for step in task.steps
            if task.node == member and isinstance(step, File) and step.path == f"{paths.MANIFESTS}/etcd.yaml"
        )
        if number == masters:
            same_as_golden(f"ha/{masters}-etcd.yaml", data.decode())
        (flags,) = (container["command"] for container in yaml.safe_load(data)["spec"]["containers"])
        everyone = ",".join(f"cp{one}=https://192.0.2.{one}:2380" for one in range(1, masters + 1))
        assert f"--initial-cluster={everyone}" in flags
        assert f"--name=cp{number}" in flags
        assert not any("initial-cluster-state=existing" in flag for flag in flags)


def test_the_proxys_files_are_the_golden_ones() -> None:
    for step in proxy_files(highly_available(3)):
        same_as_golden(f"ha/{step.path.rpartition('/')[2]}", step.data.decode())


def test_another_list_of_servers_makes_no_other_pod() -> None:
    (config, manifest), (other_config, other_manifest) = (tuple(proxy_files(highly_available(n))) for n in (3, 5))
    assert config.data != other_config.data
    assert manifest.data == other_manifest.data


@dataclasses.dataclass
class Machine:
    """A machine's folders, and sh as `local-proxy` runs it there."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / local_proxy.CONFIG.lstrip("/")

    def run(self, script: str) -> int:
        for place in (local_proxy.FOLDER, "/var/log/containers", "/var/lib/containerd", paths.STATE):
            script = script.replace(place, f"{self.root}{place}")
        return subprocess.run(["sh", "-c", script], check=False).returncode

    def container(self, name: str, pid: int, *, ended: int = 0) -> None:
        status = self.root / "var/lib/containerd/io.containerd.grpc.v1.cri/containers" / name / "status"
        status.parent.mkdir(parents=True)
        status.write_text(
            f'{{"Version":"v1","Pid":{pid},"CreatedAt":{time.time_ns()},"StartedAt":2,"FinishedAt":{ended},"ExitCode":0}}'
        )
        link = self.root / f"var/log/containers/kubestrap-proxy-w_kube-system_kubestrap-proxy-{name}.log"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("nowhere")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.config.parent.mkdir(parents=True)
    made.config.write_text("one")
    (tmp_path / paths.STATE.lstrip("/")).mkdir(parents=True)
    return made


def test_a_proxy_is_told_of_a_changed_configuration_once_and_goes_on(machine: Machine) -> None:
    described = highly_available(3)
    (reading,) = (step for step in local_proxy.steps(described, described.nodes[-1]) if isinstance(step, Command))
    assert machine.run(reading.unless) == 0, "none runs yet"
    trap = "trap 'echo told' USR2; echo; while :; do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", trap], stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout
        proxy.stdout.readline()
        machine.container("ended", 1, ended=3)
        machine.container("live", proxy.pid)
        assert machine.run(reading.unless) == 0, "it was made after its configuration"
        machine.config.write_text("another")
        assert machine.run(reading.unless) == 1
        assert machine.run(reading.run) == 0
        assert proxy.stdout.readline() == "told\n"
        assert machine.run(reading.unless) == 0
        machine.config.write_text("a third")
        assert machine.run(reading.unless) == 1
        proxy.kill()


def test_a_port_that_needs_root_is_bound_by_root() -> None:
    _, manifest = proxy_files(highly_available(3, endpoint={"kind": "local-proxy", "port": 443}))
    (container,) = yaml.safe_load(manifest.data)["spec"]["containers"]
    assert container["securityContext"]["runAsUser"] == 0
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}


@pytest.mark.parametrize(("masters", "leads_to"), [(1, "192.0.2.1"), (3, "127.0.0.1")])
def test_a_worker_goes_straight_to_a_single_host_and_by_its_proxy_to_several(masters: int, leads_to: str) -> None:
    described = highly_available(masters)
    assert hosts_line(described, described.nodes[-1]) == f"{leads_to} api.kubernetes.cluster.local"
    assert hosts_line(described, described.nodes[0]) == "192.0.2.1 api.kubernetes.cluster.local"


def test_where_no_proxy_is_needed_none_is_left() -> None:
    external = highly_available(3, endpoint={"kind": "external", "name": "api.example.com"})
    for described in (highly_available(1), external):
        (task,) = (
            task
            for task in build(JOIN, described, nodes=described.nodes[-1:]).tasks
            if task.phase.name == "local-proxy"
        )
        assert task.steps == (Absent(paths.PROXY_MANIFEST), Absent(local_proxy.CONFIG))


def test_several_hosts_start_together_and_each_marks_its_own_node() -> None:
    described = highly_available(3)
    first, second = build(INIT, described, nodes=described.control_plane).stages
    assert {task.phase.name.partition("/")[0] for task in first.tasks} == {
        "prepare",
        "certs",
        "kubeconfig",
        "etcd",
        "control-plane",
        "vip",
    }
    assert second.tasks[0].phase.name == "kubelet-start"
    once = [task.node.name for task in second.tasks if task.phase.name.startswith(("upload-config", "addon"))]
    assert set(once) == {"cp1"}
    assert [task.node.name for task in second.tasks if task.phase.name == "mark-control-plane"] == ["cp1", "cp2", "cp3"]
    assert len(build(INIT, highly_available(1), nodes=highly_available(1).control_plane).stages) == 1


def test_several_hosts_of_a_cluster_that_serves_are_changed_one_after_the_other() -> None:
    described = highly_available(3)
    first, *turns, last = build(INIT, described, nodes=described.control_plane, in_turn=True).stages
    assert (first.turn, last.turn) == (False, False)
    assert [(stage.turn, stage.hosts) for stage in turns] == [(True, (name,)) for name in ("cp1", "cp2", "cp3")]
    for stage in turns:
        phases = [task.phase.name for task in stage.tasks]
        assert phases[0] == "etcd/local"
        assert phases[-2:] == ["kubelet-start", "wait-control-plane"]


def test_a_run_that_does_not_know_the_control_plane_leaves_a_proxy_alone() -> None:
    worker = node("worker", "worker")
    proxied = dataclasses.replace(worker, facts=Facts(files={paths.PROXY_MANIFEST: b"proxy"}))
    for joining, kept in ((worker, False), (proxied, True)):
        described = dataclasses.replace(site(joining), endpoint_address="192.0.2.50")
        assert (list(local_proxy.steps(described, joining)) == []) is kept
        assert (list(prepare.hosts_steps(described, joining)) == []) is kept


def test_a_changed_proxy_is_waited_for_where_a_kubelet_runs_it() -> None:
    described = highly_available(3)
    new = described.nodes[-1]
    joined = dataclasses.replace(new, facts=Facts(files={paths.KUBELET_CONF: b""}, bootstrapped=True))
    assert list(local_proxy.wait_steps(described, new)) == []
    (step,) = local_proxy.wait_steps(described, joined)
    assert isinstance(step, Wait)
    assert "--server https://api.kubernetes.cluster.local:6443 " in step.until
    assert list(local_proxy.wait_steps(highly_available(1), joined)) == []
