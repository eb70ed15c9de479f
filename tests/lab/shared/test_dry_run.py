"""`diff` on a real cluster: it says what a run then does, and changes nothing.

Costs, beside the shared cluster: 2 min.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from bootstrap import paths
from tests.lab.clusters import Cluster, changes

TREE = f"/etc {paths.BINARIES} /opt/cni {paths.STATE} {paths.KUBELET}/config.yaml"


def _said(stdout: str) -> list[str]:
    """List the steps that a diff says a run would change, without those that depend on others."""
    steps = [line.strip() for line in stdout.splitlines() if re.match(r"  \S", line)]
    return [step for step in steps if "(after " not in step]


def _state(cluster: Cluster, *machines: str) -> dict[str, str]:
    """Give the contents, modes and times of files on machines, and the versions of objects."""
    look = (
        f"find {TREE} -printf '%p %y %m %U %G %s %T@ %l\\n' | sort; "
        f"find {TREE} -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    found = {machine: cluster.on(machine, look) for machine in machines}
    version = "-o custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name,V:.metadata.resourceVersion"
    kinds = "configmaps,secrets,roles,rolebindings,serviceaccounts,services,clusterroles,clusterrolebindings"
    found["objects"] = cluster.kubectl(f"get {kinds} -A {version}")
    found["marks"] = cluster.kubectl("get node cp1 -o custom-columns=L:.metadata.labels,T:.spec.taints")
    return found


def test_a_diff_says_what_a_run_then_does_and_changes_nothing(cluster: Cluster) -> None:
    cluster.kubestrap("init")
    cluster.kubestrap("join")
    cluster.wait_ready(("cp1", "worker1", "worker2"))
    assert "No differences." in cluster.kubestrap("diff", "init", "--detailed-exitcode").stdout
    containerd, manager = paths.CONTAINERD_CONFIG, paths.CONTROLLER_MANAGER_CONF
    cluster.on("cp1", f"echo '# edited' >> {containerd}; chmod 666 {manager}")
    edit = '{"data": {"ClusterConfiguration": "edited"}}'
    cluster.kubectl(f"-n kube-system patch configmap kubeadm-config --type merge -p '{edit}'")
    cluster.on("worker1", "systemctl stop kubelet")
    before = _state(cluster, "cp1", "worker1")

    init = cluster.kubestrap("diff", "init", "--detailed-exitcode", status=11).stdout
    join = cluster.kubestrap("join", "--dry-run", "--detailed-exitcode", status=11).stdout
    assert _state(cluster, "cp1", "worker1") == before
    assert _said(init) == [
        f"{containerd}: updated",
        f"{manager}: mode and owner mended",
        "ConfigMap kube-system/kubeadm-config: configured",
    ]
    assert "    -# edited" in init.splitlines()
    assert "    mode 666 -> 600, owner 0:0 -> 0:0" in init.splitlines()
    assert "    -  ClusterConfiguration: edited" in init.splitlines()
    assert _said(join) == ["kubelet.service: started"]
    assert "PRIVATE KEY" not in init + join

    assert changes(cluster.kubestrap("init").stderr) == _said(init)
    assert changes(cluster.kubestrap("join").stderr) == _said(join)
    cluster.wait_ready(("cp1", "worker1", "worker2"))
    assert cluster.kubestrap("diff", "init", "--detailed-exitcode").stdout == "No differences.\n"
    # A file that holds again what its service was started with needs no restart, whatever its time is.
    cluster.kubestrap("verify", "--only", "services-current")


def test_a_diff_of_a_machine_that_is_in_no_cluster_makes_no_token(cluster: Cluster, tmp_path: Path) -> None:
    inventory = yaml.safe_load(cluster.inventory.read_text())
    every = yaml.safe_load(cluster.lab.inventory.read_text())["hosts"]
    inventory["hosts"] = [host for host in every if host["name"] in {"cp1", "worker3"}]
    path = tmp_path / "inventory.yaml"
    path.write_text(yaml.safe_dump(inventory, sort_keys=False))
    before = _state(cluster, "worker3")
    ran = cluster.kubestrap("diff", "join", "-i", path, "--limit", "worker3", "--detailed-exitcode", status=11)
    assert _state(cluster, "worker3") == before
    assert "nothing -> new token" in ran.stdout
    assert f"{paths.BOOTSTRAP_KUBELET_CONF}: created" in ran.stdout
    assert "Node worker3 to be Ready: to be seen (after kubelet-start: kubelet.service)" in ran.stdout
