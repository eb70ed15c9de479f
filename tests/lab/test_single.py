"""One machine that is control plane and worker at once, with settings other than the defaults.

Costs 90 s, most of it the wait for Pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from bootstrap import paths
from tests.lab.clusters import ROOT, Cluster, changes


def _configure(data: dict[str, Any]) -> None:
    data["cluster"] |= {
        "encryptionAlgorithm": "RSA-2048",
        "certificateValidityPeriod": "1000h",
        "networking": {"podSubnet": "10.60.0.0/16", "serviceSubnet": "10.61.0.0/16", "dnsDomain": "example.test"},
        "apiServer": {
            "certSANs": ["api.example.test", "192.0.2.7"],
            "extraArgs": [{"name": "v", "value": "1"}, {"name": "profiling", "value": "false"}],
        },
        "scheduler": {"extraEnvs": [{"name": "PLACE", "value": "here"}]},
        "patches": "patches",
        "hooks": [
            {"before": "kubelet-start", "run": ["sh", "-c", "echo before $KUBESTRAP_PHASE >> /root/hooked"]},
            {"after": "kubelet-start", "run": "hooked.sh"},
            {"after": "addon", "where": "operator", "run": "hooked.sh"},
        ],
    }
    data["hosts"][0] |= {
        "roles": ["control-plane", "worker"],
        "labels": {"example.test/disk": "fast"},
        "scheduler": {"extraArgs": [{"name": "v", "value": "3"}]},
    }


PATCHES = {
    # The scheduler answers elsewhere, and is waited for there.
    "kube-scheduler0.yaml": """
metadata: {labels: {example.test/patched: "yes"}}
spec:
  containers:
    - name: kube-scheduler
      ports: [{name: probe-port, containerPort: 10259, $patch: delete}, {name: moved, containerPort: 20259}]
      livenessProbe: {httpGet: {port: moved}}
      readinessProbe: {httpGet: {port: moved}}
      startupProbe: {httpGet: {port: moved}}
""",
    "kube-scheduler1+json.yaml": "- {op: add, path: /spec/containers/0/command/-, value: --secure-port=20259}\n",
    "kubeletconfiguration+merge.json": '{"maxPods": 77}',
    "corednsdeployment.yaml": "spec: {template: {metadata: {labels: {example.test/patched: 'yes'}}}}\n",
}
HOOKED = 'echo "$KUBESTRAP_HOST $KUBESTRAP_PHASE" >> "$HOME/hooked"\n'


@pytest.fixture(scope="module")
def single(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    with new_cluster("single", 1) as cluster:
        beside = cluster.write_inventory(["cp1"], _configure).parent
        (beside / "patches").mkdir()
        for name, text in PATCHES.items():
            (beside / "patches" / name).write_text(text)
        (beside / "hooked.sh").write_text(HOOKED)
        cluster.kubestrap("init")
        yield cluster


def test_one_machine_alone_is_a_cluster_that_runs_pods(single: Cluster) -> None:
    single.wait_ready(["cp1"])
    (node,) = single.get("nodes")["items"]
    assert "taints" not in node["spec"]
    assert node["metadata"]["labels"]["example.test/disk"] == "fast"
    assert node["spec"]["podCIDR"].startswith("10.60.")
    single.kubectl("-n kube-system rollout status deploy/coredns --timeout=600s", seconds=660)


def test_certificates_have_the_algorithm_names_and_life_that_were_asked_for(single: Cluster) -> None:
    served = x509.load_pem_x509_certificate(single.on("cp1", f"cat {paths.PKI}/apiserver.crt").encode())
    key = served.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "api.example.test" in names.get_values_for_type(x509.DNSName)
    assert {"192.0.2.7", "10.61.0.1"} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert (served.not_valid_after_utc - served.not_valid_before_utc).total_seconds() == pytest.approx(
        3600 * 1000, abs=900
    )


def test_extra_arguments_and_variables_reach_the_running_components(single: Cluster) -> None:
    server = single.get("pod -n kube-system kube-apiserver-cp1")["spec"]["containers"][0]["command"]
    assert {"--v=1", "--profiling=false"} <= set(server)
    scheduler = single.get("pod -n kube-system kube-scheduler-cp1")["spec"]["containers"][0]
    assert {"name": "PLACE", "value": "here"} in scheduler["env"]


def test_patches_and_settings_of_a_host_reach_what_runs(single: Cluster) -> None:
    scheduler = single.get("pod -n kube-system kube-scheduler-cp1")
    assert scheduler["metadata"]["labels"]["example.test/patched"] == "yes"
    assert {"--secure-port=20259", "--v=3"} <= set(scheduler["spec"]["containers"][0]["command"])
    assert scheduler["status"]["containerStatuses"][0]["ready"]
    (node,) = single.get("nodes")["items"]
    assert node["status"]["capacity"]["pods"] == "77"
    assert single.get("pods -n kube-system -l k8s-app=kube-dns,example.test/patched=yes")["items"]
    assert single.kubestrap("diff", "init").stdout == "No differences.\n"


def test_hooks_are_run_at_their_places_each_time_and_change_nothing(single: Cluster) -> None:
    there, here = (lambda: single.on("cp1", "cat /root/hooked").splitlines()), single.home / "hooked"
    ran, told = there(), here.read_text().splitlines()
    assert ran[:2] == ["before kubelet-start", "cp1 kubelet-start"]
    assert told[0] == "cp1 addon/flannel"
    assert changes(single.kubestrap("init").stderr) == []
    assert there() == [*ran, "before kubelet-start", "cp1 kubelet-start"]
    assert here.read_text().splitlines() == [*told, "cp1 addon/flannel"]


def test_where_everybody_is_in_the_cluster_join_changes_nothing(single: Cluster) -> None:
    assert changes(single.kubestrap("join").stderr) == []


def test_the_library_finds_nothing_to_do_and_gives_the_same_kubeconfig(single: Cluster) -> None:
    told = single.python(ROOT / "examples" / "cluster.py", "diff", single.inventory)
    assert told.stdout == "No differences.\n"
    path = single.home / "from-the-library"
    told = single.python(ROOT / "examples" / "cluster.py", "apply", single.inventory, path)
    told_at_the_end = ["Nodes that joined: none", f"export KUBECONFIG={path}"]
    assert [line for line in told.stdout.splitlines() if " took " not in line] == told_at_the_end
    (written,) = (single.home / ".config" / "kubestrap").glob("*.kubeconfig")
    assert path.read_bytes() == written.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_of_the_library_that_is_closed_leaves_the_machine_to_the_next(single: Cluster) -> None:
    single.on("cp1", f"rm {paths.MANIFESTS}/kube-scheduler.yaml")
    script = """
import sys
from bootstrap import Cluster
from bootstrap.events import PhaseStarted
run = Cluster.load(sys.argv[1]).apply("init")
print(next(event.phase for event in run if isinstance(event, PhaseStarted)))
run.close()
print("closed")
print(len(list(Cluster.load(sys.argv[1]).apply("init"))))
"""
    phase, closed, events = single.python("-c", script, single.inventory).stdout.split()
    assert (phase.partition("/")[0], closed) == ("prepare", "closed")
    assert int(events) > 10
    assert single.kubestrap("diff", "init").stdout == "No differences.\n"
