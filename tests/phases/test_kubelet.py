from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from bootstrap import paths
from bootstrap.phases import kubelet
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import Absent, Command, File, Step, Unit, Wait
from tests.builders import node, site


def flags(described: Site, host: Node, *, register: bool = True) -> list[str]:
    name, _, value = kubelet.environment(described, host, register=register).partition("=")
    assert name == "KUBELET_KUBEADM_ARGS"
    return str(yaml.safe_load(value)).split(" ")


def worker(**host: object) -> Node:
    return node("worker", "worker", address="192.0.2.11", **host)


def test_the_nodes_address_is_told() -> None:
    assert flags(site(), worker()) == ["--node-ip=192.0.2.11"]


def test_a_name_that_is_not_the_machines_is_told() -> None:
    host = worker(facts=Facts(hostname="debian"))
    assert "--hostname-override=worker" in flags(site(), host)


def test_a_worker_registers_with_its_taints_and_the_labels_it_may_set() -> None:
    host = worker(
        labels={"zone": "b", "example.com/rack": "r1", "node-role.kubernetes.io/edge": ""},
        taints=[
            {"key": "a", "value": "b", "effect": "NoSchedule"},
            {"key": "c", "effect": "NoExecute"},
        ],
    )
    assert flags(site(), host) == [
        "--node-ip=192.0.2.11",
        "--node-labels=example.com/rack=r1,zone=b",
        "--register-with-taints=a=b:NoSchedule,c=:NoExecute",
    ]


def test_a_control_plane_host_is_tainted_by_the_api_as_with_kubeadm() -> None:
    assert flags(site(), node(), register=False) == ["--node-ip=192.0.2.10"]


def test_a_hosts_arguments_take_the_place_of_the_clusters_and_both_of_ours() -> None:
    described = site(
        cluster={"kubelet": {"extraArgs": [{"name": "v", "value": "2"}, {"name": "node-ip", "value": "::"}]}}
    )
    host = worker(kubelet={"extraArgs": [{"name": "v", "value": "5"}]})
    assert flags(described, host) == ["--node-ip=::", "--v=5"]


def config(steps: list[Step]) -> dict[str, object]:
    (file,) = [step for step in steps if isinstance(step, File) and step.path == paths.KUBELET_CONFIG]
    loaded: dict[str, object] = yaml.safe_load(file.data)
    return loaded


def test_what_the_inventory_says_is_put_upon_kubeadms_configuration_the_hosts_last() -> None:
    described = site(
        cluster={"kubelet": {"config": {"maxPods": 50, "authentication": {"webhook": {"cacheTTL": "1m"}}}}}
    )
    host = node(kubelet={"config": {"maxPods": 20}})
    made = config(list(kubelet.start_steps(described, host)))
    assert made["maxPods"] == 20
    assert made["authentication"] == {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True, "cacheTTL": "1m"},
        "x509": {"clientCAFile": f"{paths.PKI}/ca.crt"},
    }


def test_pods_get_the_real_name_servers_where_resolved_runs() -> None:
    host = node(facts=Facts(hostname="master", resolved=True))
    made = config(list(kubelet.start_steps(site(), host)))
    assert made["resolvConf"] == "/run/systemd/resolve/resolv.conf"
    assert "resolvConf" not in kubelet.cluster_config(site().cluster)


def test_a_resolv_conf_of_the_users_stays() -> None:
    host = node(facts=Facts(hostname="master", resolved=True))
    described = site(cluster={"kubelet": {"config": {"resolvConf": "/etc/other"}}})
    assert config(list(kubelet.start_steps(described, host)))["resolvConf"] == "/etc/other"


def test_a_runtime_of_the_users_is_in_both_configurations() -> None:
    host = node(kubelet={"config": {"containerRuntimeEndpoint": "unix:///run/other.sock"}})
    steps = list(kubelet.start_steps(site(), host))
    assert config(steps)["containerRuntimeEndpoint"] == "unix:///run/other.sock"
    (instance,) = [step for step in steps if isinstance(step, File) and step.path == paths.KUBELET_INSTANCE_CONFIG]
    assert instance.data == b'containerRuntimeEndpoint: "unix:///run/other.sock"\n'


def test_a_joining_kubelet_is_configured_by_the_cluster_it_joins() -> None:
    whole = site(cluster={"kubelet": {"config": {"maxPods": 33}}})
    described = site(cluster={"kubelet": {"config": {"maxPods": 44}}})
    described = Site(described.cluster, described.nodes, described.contents, described.files, whole.joining)
    assert config(list(kubelet.join_steps(described, worker())))["maxPods"] == 33


def test_a_kubelet_is_started_anew_after_a_change_of_what_it_reads_at_its_start() -> None:
    (unit,) = [step for step in kubelet.start_steps(site(), node()) if isinstance(step, Unit)]
    assert {paths.KUBELET_CONFIG, paths.KUBELET_FLAGS, paths.KUBELET_UNIT, paths.KUBELET_DROP_IN} < set(unit.uses)
    assert f"{paths.BINARIES}/kubelet" in unit.uses


def test_the_token_is_written_until_there_is_a_certificate() -> None:
    # Not until there is a kubelet.conf: the kubelet writes that one before it has a certificate.
    steps = list(kubelet.join_steps(site(), worker()))
    (file,) = [step for step in steps if isinstance(step, File) and step.path == paths.BOOTSTRAP_KUBELET_CONF]
    assert file.unless == paths.KUBELET_CLIENT_CERT


def test_a_token_file_that_did_its_work_is_taken_away_before_the_node_is_waited_for() -> None:
    kinds = [type(step) for step in kubelet.wait_bootstrap_steps(site(), worker())]
    assert kinds == [Wait, Wait, Absent, Wait]


def test_a_kubelet_that_got_no_certificate_is_stopped_so_that_it_reads_the_new_token() -> None:
    steps = list(kubelet.join_steps(site(), worker()))
    kinds = [type(step) for step in steps]
    (command,) = [step for step in steps if isinstance(step, Command)]
    assert kinds.index(Command) == kinds.index(Unit) - 1
    assert paths.KUBELET_CLIENT_CERT in command.unless


def test_a_kubelet_of_the_control_plane_that_stored_no_certificate_is_started_anew() -> None:
    steps = list(kubelet.start_steps(site(), node()))
    (command,) = [step for step in steps if isinstance(step, Command)]
    assert steps.index(command) == len(steps) - 2
    assert f"[ -e {paths.KUBELET_CLIENT_CERT} ]" in command.unless
    assert "stop" in command.run


READY = (
    '{"kind":"Node","status":{"conditions":['
    '{"type":"MemoryPressure","status":"False","reason":"KubeletHasSufficientMemory","message":"all well"},'
    '{"type":"Ready","status":"%s","reason":"KubeletReady","message":"%s"}],"addresses":[]}}'
)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (READY % ("True", "kubelet is posting ready status"), 0, ""),
        (READY % ("False", "cni plugin not initialized"), 1, "cni plugin not initialized"),
        (READY % ("Unknown", "Kubelet stopped posting node status."), 1, "Kubelet stopped posting node status."),
        ('{"kind":"Node","status":{}}', 1, "the Node has no condition Ready yet"),
    ],
    ids=["ready", "not-ready", "unknown", "new"],
)
def test_a_node_is_ready_when_its_condition_says_so(tmp_path: Path, answer: str, status: int, told: str) -> None:
    done = ready(tmp_path, f"cat <<'EOF'\n{answer}\nEOF\n")
    assert (done.returncode, done.stdout.strip()) == (status, told)


def test_a_node_that_gets_ready_is_seen_at_once_and_the_watch_is_ended(tmp_path: Path) -> None:
    answers = [READY % ("False", "not yet"), READY % ("True", "well")]
    lines = "".join(f"cat <<'EOF'\n{answer}\nEOF\n" for answer in answers)
    done = ready(tmp_path, f'echo $$ >"${{0%/*}}/watching"\n{lines}exec sleep 600\n')
    assert done.returncode == 0
    watching = (tmp_path / "watching").read_text().strip()
    assert not Path(f"/proc/{watching}").exists()


def test_an_api_server_that_does_not_answer_is_told_of(tmp_path: Path) -> None:
    done = ready(tmp_path, "echo 'connection refused' >&2; exit 1\n")
    assert (done.returncode, done.stdout.strip()) == (1, "connection refused")


def ready(folder: Path, kubectl: str) -> subprocess.CompletedProcess[str]:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{kubectl}")
    program.chmod(0o755)
    waits = [step for step in kubelet.wait_bootstrap_steps(site(), worker()) if isinstance(step, Wait)]
    script = waits[-1].until.replace(f"{paths.BINARIES}/kubectl", str(program))
    (folder / "until").write_text(script)
    return subprocess.run(["sh", str(folder / "until")], capture_output=True, text=True, check=False)
