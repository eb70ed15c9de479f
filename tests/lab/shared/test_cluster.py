"""`init` and `join` on real machines: a control plane and two workers, shared with the other files of this folder.

Costs, beside the shared cluster (about 2 min): 5 min.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap import paths
from bootstrap.bundle import open_bundle
from bootstrap.bundle.gomodules import build_tool
from tests.lab import kills
from tests.lab.clusters import Cluster, changes
from tests.tcpproxy import Proxy

EVERY = ("cp1", "worker1", "worker2")
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")


def test_every_node_is_ready_with_its_role(cluster: Cluster) -> None:
    cluster.wait_ready(EVERY)
    nodes = {node["metadata"]["name"]: node for node in cluster.get("nodes")["items"]}
    assert sorted(nodes) == sorted(EVERY)
    for name in EVERY:
        role = "control-plane" if name == "cp1" else "worker"
        assert nodes[name]["metadata"]["labels"][f"node-role.kubernetes.io/{role}"] == ""
        assert nodes[name]["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.2"
    taint = {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}
    assert nodes["cp1"]["spec"]["taints"] == [taint]
    assert "taints" not in nodes["worker1"]["spec"]


@pytest.mark.parametrize("machine", EVERY)
def test_f38_machines_of_nodes_have_no_python(cluster: Cluster, machine: str) -> None:
    assert cluster.ssh(machine, "command -v python3 || command -v python").stdout == ""


def test_system_pods_are_rolled_out(cluster: Cluster) -> None:
    for what in (
        "kube-system daemonset/kube-proxy",
        "kube-flannel daemonset/kube-flannel-ds",
        "kube-system deploy/coredns",
    ):
        namespace, name = what.split()
        cluster.kubectl(f"-n {namespace} rollout status {name} --timeout=300s", seconds=360)


def test_the_operators_kubeconfig_works_from_his_own_machine(cluster: Cluster) -> None:
    path = cluster.home / ".config" / "kubestrap" / "test-shared.kubeconfig"
    path = next(path.parent.glob("*.kubeconfig"))
    assert path.stat().st_mode & 0o777 == 0o600
    shown = cluster.kubestrap("kubeconfig").stdout
    assert shown == path.read_text()
    contents = open_bundle(None, kubernetes_version="1.37.2", platform="linux/amd64")
    kubectl = next(binary for binary in contents.contents.binaries if binary.path.endswith("/kubectl"))
    program = cluster.home / "kubectl"
    with contents.open(kubectl.digest) as source:
        program.write_bytes(source.read())
    program.chmod(0o755)
    command = [str(program), "--kubeconfig", str(path), "get", "--raw", "/readyz"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "ok"
    cluster.kubestrap("kubeconfig", "--merge")
    merged = cluster.home / ".kube" / "config"
    assert merged.stat().st_mode & 0o777 == 0o600
    program.unlink()


def test_status_shows_the_whole_cluster_without_a_warning(cluster: Cluster) -> None:
    cluster.wait_ready(EVERY)
    cluster.kubectl("-n kube-system rollout status deploy/coredns --timeout=300s", seconds=360)
    shown = cluster.kubestrap("status", "--output", "json").stdout
    (seen,) = (line["data"] for line in map(json.loads, shown.splitlines()) if line["event"] == "result")
    assert seen["problems"] == []
    assert {host["name"]: (host["node"], host["endpoint"]) for host in seen["hosts"]} == dict.fromkeys(
        EVERY, ("Ready", "ok")
    )
    components = {each["name"]: (each["ready"], each["wanted"]) for each in seen["components"]}
    assert components == dict.fromkeys(
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"), (1, 1)
    ) | {
        "kube-proxy": (3, 3),
        "kube-flannel-ds": (3, 3),
        "coredns": (2, 2),
    }
    assert [(member["name"], member["role"]) for member in seen["etcd"]] == [("cp1", "leader")]
    days = {(each["host"], each["name"]): each["days"] for each in seen["certificates"]}
    assert days["cp1", "ca"] > 3600
    assert {days[at] for at in (("cp1", "apiserver"), ("cp1", "admin.conf"), ("worker2", "kubelet-client"))} <= {
        363,
        364,
    }


def test_no_token_is_left_behind(cluster: Cluster) -> None:
    listed = cluster.kubestrap("token", "list").stdout
    assert listed.splitlines()[1:] == []


def test_f4_a_second_run_changes_nothing_and_restarts_nothing(cluster: Cluster) -> None:
    test_system_pods_are_rolled_out(cluster)
    before = {machine: cluster.containers(machine) for machine in EVERY}
    versions = _resource_versions(cluster)
    first = cluster.kubestrap("init")
    second = cluster.kubestrap("join")
    assert changes(first.stderr) == []
    assert changes(second.stderr) == []
    assert {machine: cluster.containers(machine) for machine in EVERY} == before
    assert _resource_versions(cluster) == versions


def _resource_versions(cluster: Cluster) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in ("configmaps,roles,rolebindings,serviceaccounts,services -A", "clusterroles,clusterrolebindings"):
        for item in cluster.get(kind)["items"]:
            meta = item["metadata"]
            found[f"{item['kind']} {meta.get('namespace', '')}/{meta['name']}"] = meta["resourceVersion"]
    return found


def test_what_was_broken_is_mended_and_nothing_else(cluster: Cluster) -> None:
    manifest = f"{paths.MANIFESTS}/kube-scheduler.yaml"
    image = next(
        line.split()[0] for line in cluster.on("worker1", "ctr -n k8s.io images ls").splitlines() if "agnhost" in line
    )
    cluster.on("cp1", f"echo '# edited' >> {manifest}")
    cluster.on("worker1", f"ctr -n k8s.io images rm --sync {image}")
    cluster.on("worker2", "systemctl stop kubelet")
    cluster.kubectl("-n kube-system delete rolebinding kubeadm:kubelet-config")
    init = cluster.kubestrap("init").stderr
    join = cluster.kubestrap("join").stderr
    changed = [*changes(init), *changes(join)]
    assert sorted(changed) == sorted(
        [
            f"{manifest}: updated",
            "RoleBinding kube-system/kubeadm:kubelet-config: created",
            f"image {image}: imported",
            "kubelet.service: started",
        ]
    )
    cluster.wait_ready(EVERY)


def test_a_kubelet_whose_certificates_were_wiped_gets_new_ones(cluster: Cluster) -> None:
    names = ["cp1", "worker1"]
    for name in names:
        cluster.on(name, f"rm -r {paths.KUBELET}/pki")
    worker = cluster.get("node worker1")["metadata"]["uid"]
    cluster.kubestrap("init")
    cluster.kubestrap("join")
    for name in names:
        assert cluster.on(name, f"cat {paths.KUBELET_CONF}").count(paths.KUBELET_CLIENT_CERT) == 2
        # It is that certificate with which the kubelet that runs now is known to the API server.
        ready = f"{paths.BINARIES}/kubectl --kubeconfig {paths.KUBELET_CONF} get node {name} -o jsonpath={{.kind}}"
        assert cluster.on(name, ready) == "Node"
    cluster.wait_ready(names)
    assert cluster.get("node worker1")["metadata"]["uid"] == worker
    assert changes(cluster.kubestrap("init").stderr) == []


def test_f29_a_worker_that_is_not_reached_does_not_stop_the_others(cluster: Cluster) -> None:
    def hasty(data: dict[str, Any]) -> None:
        data["ssh"]["connectTimeout"] = "3s"

    cluster.write_inventory(EVERY, hasty)
    try:
        for worker in ("worker1", "worker2"):
            cluster.on(worker, "systemctl stop kubelet")
        with kills.unreached(cluster.lab.machine("worker2").address):
            ran = cluster.kubestrap("join", status=8)
    finally:
        cluster.write_inventory(EVERY)
    assert "worker2: " in ran.stderr
    assert changes(ran.stderr) == ["kubelet.service: started"]
    assert cluster.on("worker1", "systemctl is-active kubelet") == "active\n"
    # The next run has the other one left to do, and nothing else.
    assert changes(cluster.kubestrap("join").stderr) == ["kubelet.service: started"]
    cluster.wait_ready(EVERY)


def test_f7_a_worker_joins_over_long_round_trips_and_lost_packets(cluster: Cluster) -> None:
    addresses = {name: cluster.lab.machine(name).address for name in ("cp1", "worker3")}
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(Proxy(22, address=address, delay=0.1)) for name, address in addresses.items()
        }
        known = cluster.home / "known_hosts"
        lines = cluster.lab.known_hosts_file.read_text().splitlines()
        known.write_text(
            "".join(
                f"[127.0.0.1]:{proxies[name].port} {line.partition(' ')[2]}\n"
                for name, address in addresses.items()
                for line in lines
                if line.startswith(f"{address} ")
            )
        )

        def far_away(data: dict[str, Any]) -> None:
            data["ssh"]["knownHostsFile"] = str(known)
            for host in data["hosts"]:
                host |= {"nodeAddress": host["address"], "address": "127.0.0.1"}
                host["ssh"] = {**host.get("ssh", {}), "port": proxies[host["name"]].port}

        cluster.write_inventory(list(addresses), far_away)
        stack.callback(cluster.write_inventory, EVERY)
        stack.enter_context(kills.lossy(*addresses.values()))
        cluster.kubestrap("join")
    cluster.wait_ready(["worker3"])
    _wipe(cluster, "worker3")


@pytest.fixture
def invited(cluster: Cluster) -> Any:
    """A token, the CA's hash, and an inventory that knows worker3 alone; afterwards worker3 is in no cluster again."""
    created = cluster.kubestrap("token", "create", "--print-join-command", "--ttl", "1h").stdout
    token, ours, theirs = created.splitlines()
    assert TOKEN.fullmatch(token)
    words = ours.split()
    server, ca_hash = words[words.index("--server") + 1], words[words.index("--ca-cert-hash") + 1]
    cluster.write_inventory(["worker3"])
    try:
        yield server, ca_hash, token, theirs
    finally:
        cluster.write_inventory(EVERY)
        cluster.kubestrap("token", "delete", token[:6])
        cluster.kubectl("delete node worker3 --ignore-not-found")


def _wipe(cluster: Cluster, machine: str) -> None:
    """Take a Node's machine out of the cluster, as `kubeadm reset` would."""
    cluster.on(
        machine,
        "systemctl disable --now kubelet; "
        "for id in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks rm -f $id; done; "
        "for id in $(ctr -n k8s.io containers ls -q); do ctr -n k8s.io containers rm $id; done; "
        "rm -rf /etc/kubernetes/*.conf /etc/kubernetes/pki/* /var/lib/kubelet/pki /var/lib/kubelet/config.yaml; "
        "ip link del cni0; ip link del flannel.1; true",
    )
    cluster.kubectl(f"delete node {machine} --ignore-not-found")


def test_f27_mistakes_of_an_invitation_are_told_apart_before_anything_is_changed(
    cluster: Cluster, invited: Any
) -> None:
    server, ca_hash, token, _ = invited
    wrong_secret = f"{token[:7]}{'0' * 16}"
    expired = "zzzzzz.0123456789abcdef"
    cluster.write_inventory(EVERY)
    revoked = cluster.kubestrap("token", "create").stdout.strip()
    cluster.kubestrap("token", "delete", revoked[:6])
    cluster.write_inventory(["worker3"])
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token"}
    secret |= {"metadata": {"name": "bootstrap-token-zzzzzz", "namespace": "kube-system"}}
    secret |= {
        "stringData": {
            "token-id": expired[:6],
            "token-secret": expired[7:],
            "expiration": "2026-01-01T00:00:00Z",
            "usage-bootstrap-signing": "true",
            "usage-bootstrap-authentication": "true",
        }
    }
    cluster.kubectl("create -f -", stdin=json.dumps(secret))
    said = {}
    for name, at, pin, given, status in (
        ("malformed token", server, ca_hash, "hello", 2),
        ("malformed hash", server, "sha256:12", token, 2),
        ("wrong hash", server, f"sha256:{'0' * 64}", token, None),
        ("wrong secret", server, ca_hash, wrong_secret, None),
        ("revoked token", server, ca_hash, revoked, None),
        ("expired token", server, ca_hash, expired, None),
        ("unreachable", server.rpartition(".")[0] + ".250:6443", ca_hash, token, None),
    ):
        ran = cluster.kubestrap(
            "join", "--server", at, "--ca-cert-hash", pin, "--token-file", "-", stdin=f"{given}\n", status=status
        )
        assert ran.returncode != 0, name
        assert token[7:] not in ran.stdout + ran.stderr
        said[name] = [line for line in ran.stderr.splitlines() if line.startswith("Error")][-1]
    assert len(set(said.values())) == len(said), said
    assert cluster.ssh("worker3", f"ls {paths.KUBELET_CONF} {paths.BOOTSTRAP_KUBELET_CONF}").returncode != 0


def test_a_worker_joins_by_server_token_and_hash_alone(cluster: Cluster, invited: Any) -> None:
    server, ca_hash, token, _ = invited
    ran = cluster.kubestrap(
        "join", "--server", server, "--ca-cert-hash", ca_hash, "--token-file", "-", stdin=f"{token}\n"
    )
    assert ran.stdout.strip() == "kubectl label node worker3 node-role.kubernetes.io/worker="
    cluster.wait_ready(["worker3"])
    assert cluster.ssh("worker3", f"ls {paths.BOOTSTRAP_KUBELET_CONF}").returncode != 0
    _wipe(cluster, "worker3")


def test_a_real_kubeadm_joins_with_our_token(cluster: Cluster, invited: Any) -> None:
    """The node becomes Ready, and a Pod on it reaches the cluster's DNS."""
    _, _, _, command = invited
    kubeadm = build_tool("kubeadm")
    with kubeadm.open("rb") as program:
        subprocess.run(
            cluster.lab.ssh("worker3", "cat > /usr/local/bin/kubeadm && chmod 755 /usr/local/bin/kubeadm", user="root"),
            stdin=program,
            check=True,
            timeout=300,
        )
    address = cluster.lab.machine("cp1").address
    name = command.split()[2].partition(":")[0]
    cluster.on("worker3", f"grep -q {name} /etc/hosts || echo {address} {name} >> /etc/hosts")
    ignored = "--ignore-preflight-errors=SystemVerification,Mem,NumCPU,Swap,FileAvailable--etc-kubernetes-pki-ca.crt"
    cluster.on("worker3", f"systemctl enable kubelet; {command} {ignored} 2>&1", seconds=400)
    cluster.wait_ready(["worker3"])
    agnhost = next(
        line.split()[0] for line in cluster.on("worker3", "ctr -n k8s.io images ls").splitlines() if "agnhost" in line
    )
    overrides = '{"spec":{"nodeName":"worker3"}}'
    cluster.kubectl(
        f"run probe --image={agnhost} --restart=Never --overrides='{overrides}' --command -- "
        "/agnhost connect --timeout=10s kubernetes.default.svc.cluster.local:443"
    )
    try:
        cluster.kubectl("wait --for=jsonpath='{.status.phase}'=Succeeded pod/probe --timeout=180s", seconds=240)
    finally:
        cluster.kubectl("delete pod probe --grace-period=0 --force")
    _wipe(cluster, "worker3")
    cluster.on("worker3", "rm /usr/local/bin/kubeadm")


def test_a_first_inventory_is_made_of_addresses_alone(cluster: Cluster) -> None:
    given = yaml.safe_load(cluster.lab.inventory.read_text())
    addresses = {host["name"]: host["address"] for host in given["hosts"]}
    login = (f"IdentityFile {given['ssh']['identityFile']}", f"UserKnownHostsFile {given['ssh']['knownHostsFile']}")
    configuration = cluster.home / ".ssh" / "config"
    configuration.parent.mkdir(mode=0o700, exist_ok=True)
    configuration.write_text("\n".join(["User root", *login, ""]))
    try:
        made = cluster.kubestrap("config", "create", addresses["cp1"], f"ops@{addresses['worker1']}")
    finally:
        configuration.unlink()
    assert yaml.safe_load(made.stdout)["hosts"] == [
        {"name": "cp1", "address": addresses["cp1"], "roles": ["control-plane"]},
        {"name": "worker1", "address": addresses["worker1"], "roles": ["worker"], "ssh": {"user": "ops"}},
    ]
    assert f"{addresses['worker1']}: it is in a cluster already" in made.stderr
    cluster.kubestrap("config", "validate", "-i", "-", stdin=made.stdout)


def test_json_lines_are_all_of_stdout_and_a_log_without_secrets_stays(cluster: Cluster) -> None:
    ran = cluster.kubestrap("init", "--output", "json")
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {line["version"] for line in told} == {1}
    assert (told[0]["event"], told[-1]["event"], told[-1]["exitCode"]) == ("started", "ended", 0)
    (recap,) = (line for line in told if line["event"] == "recap")
    assert [(host["host"], host["state"]) for host in recap["hosts"]] == [("cp1", "ok")]
    log = Path(told[0]["log"])
    assert log.stat().st_mode & 0o777 == 0o600
    assert str(log) in ran.stderr
    logged = log.read_text()
    assert [json.loads(line)["event"] for line in logged.splitlines()] == [line["event"] for line in told]
    keys = cluster.on("cp1", f"cat {paths.PKI}/*.key {paths.PKI}/etcd/*.key; grep client-key-data {paths.ADMIN_CONF}")
    secrets = [line.split()[-1] for line in keys.splitlines() if line and not line.startswith("-----")]
    assert len(secrets) > 10
    assert not [secret for secret in secrets if secret in logged + ran.stdout + ran.stderr]


def _running(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Give, of each machine, the containers that run and the kubelet's process."""
    kubelet = "systemctl show --property MainPID --value kubelet"
    return {name: {**cluster.containers(name), "kubelet": cluster.on(name, kubelet).strip()} for name in EVERY}


def _anew(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Give what runs on each machine that did not run before: containers by their names, and `kubelet`."""
    return {
        name: {what.rpartition("/")[2] for what, running in after[name].items() if running not in before[name].values()}
        - {"sandbox"}
        for name in EVERY
    }


def test_f5_changed_labels_and_taints_reach_nodes_that_are_there_and_restart_nothing(cluster: Cluster) -> None:
    def marked(data: dict[str, Any]) -> None:
        data["hosts"][0]["labels"] = {"example.com/rack": "r1"}
        taint = {"key": "example.com/gpu", "effect": "PreferNoSchedule"}
        data["hosts"][1] |= {"labels": {"example.com/rack": "r2"}, "taints": [taint]}

    cluster.wait_ready(EVERY)
    test_system_pods_are_rolled_out(cluster)
    before = _running(cluster)
    cluster.write_inventory(EVERY, marked)
    try:
        shown = cluster.kubestrap("diff", "join").stdout
        assert "labels and taints of Node worker1: labelled and tainted" in shown
        assert "+    example.com/rack: r2" in shown
        flags = f"{paths.KUBELET_FLAGS}: updated"
        marks = "labels and taints of Node"
        assert changes(cluster.kubestrap("init").stderr) == [flags, f"{marks} cp1: labelled"]
        assert changes(cluster.kubestrap("join").stderr) == [flags, f"{marks} worker1: labelled and tainted"]
        cluster.kubestrap("verify", "--only", "node-labels,node-taints")
        cluster.kubectl("label node worker1 example.com/theirs=x")
    finally:
        cluster.write_inventory(EVERY)
    assert changes(cluster.kubestrap("init").stderr) == [flags, f"{marks} cp1: labelled"]
    assert changes(cluster.kubestrap("join").stderr) == [flags, f"{marks} worker1: labelled and tainted"]
    node = cluster.get("node worker1")
    assert "taints" not in node["spec"]
    ours = {key for key in node["metadata"]["labels"] if key.startswith("example.com/")}
    assert ours == {"example.com/theirs"}
    assert _running(cluster) == before


def test_f5_a_changed_san_kubelet_and_add_on_restart_only_what_must_be(cluster: Cluster) -> None:
    def changed(data: dict[str, Any]) -> None:
        data["cluster"]["apiServer"] = {"certSANs": ["api.example.com"]}
        data["cluster"].setdefault("kubelet", {}).setdefault("config", {})["maxPods"] = 99
        data["cluster"].setdefault("kubeProxy", {}).setdefault("config", {})["oomScoreAdj"] = -998

    before = _running(cluster)
    cluster.write_inventory(EVERY, changed)
    try:
        shown = cluster.kubestrap("diff", "init").stdout
        for told in ("also for api.example.com", "+maxPods: 99", "oomScoreAdj: -998"):
            assert told in shown
        told = changes(cluster.kubestrap("init").stderr)
        assert told == [
            f"{paths.PKI}/apiserver.crt: updated",
            f"{paths.KUBELET_CONFIG}: updated",
            "kubelet.service: restarted",
            "ConfigMap kube-system/kubeadm-config: configured",
            "ConfigMap kube-system/kubelet-config: configured",
            "ConfigMap kube-system/kube-proxy: configured",
            "DaemonSet kube-system/kube-proxy: configured",
        ]
        address = cluster.lab.machine("cp1").address
        served = f"--server https://{address}:6443 --tls-server-name api.example.com get --raw /readyz"
        assert cluster.kubectl(served) == "ok"
        kubelet = [f"{paths.KUBELET_CONFIG}: updated", "kubelet.service: restarted"]
        assert changes(cluster.kubestrap("join").stderr) == [*kubelet, *kubelet]
        cluster.kubectl("-n kube-system rollout status daemonset/kube-proxy --timeout=300s", seconds=360)
        assert _anew(before, _running(cluster)) == {name: {"kube-proxy", "kubelet"} for name in EVERY}
        # One that a kubelet does not start with: the former comes back, and the other worker is not touched.
        before = _running(cluster)
        cluster.write_inventory(EVERY, _unfit(changed))
        told = cluster.kubestrap("join", status=8).stderr
        assert "worker2: phase kubelet-wait-bootstrap" in told
        assert f"The former {paths.KUBELET_CONFIG} is back, and all is well again" in told
        assert _anew(before, _running(cluster)) == {"cp1": set(), "worker1": set(), "worker2": {"kubelet"}}
    finally:
        cluster.write_inventory(EVERY)
        # A certificate with more names than are wanted is kept, and other tests compare this one's.
        cluster.on("cp1", f"rm {paths.PKI}/apiserver.crt {paths.PKI}/apiserver.key")
        cluster.kubestrap("init")
        cluster.kubestrap("join")
    cluster.kubectl("-n kube-system rollout status daemonset/kube-proxy --timeout=300s", seconds=360)
    assert changes(cluster.kubestrap("join").stderr) == []


def _unfit(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def changed(data: dict[str, Any]) -> None:
        change(data)
        data["hosts"][2]["kubelet"] = {"config": {"maxOpenFiles": -1}}

    return changed
