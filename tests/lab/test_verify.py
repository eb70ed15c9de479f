"""Every check fails by its name when what it checks is broken, and passes again when that is mended.

Costs about five minutes on a cluster of one control plane and two workers that is there already, and is left as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from bootstrap import inventory as inventories
from bootstrap import paths, verify
from bootstrap.joining import RUN_DESCRIPTION
from bootstrap.run import bundle_of
from bootstrap.spec import Inventory
from bootstrap.verify import Outcome
from bootstrap.verify.smoke import Limits
from tests.lab.clusters import Cluster

K = f"{paths.BINARIES}/kubectl --kubeconfig {paths.ADMIN_CONF}"
CP, WORKER = "cp1", "worker1"
SHORT = Limits(rollout=20, reach=3, clean_up=15)
PATIENCE = 240


@dataclass(frozen=True)
class Break:
    """What makes `checks` fail for `failing`, done on `host`, and what mends it."""

    checks: tuple[str, ...]
    host: str
    spoil: str
    mend: str
    failing: str = ""  # the host the checks are made on, where it is another

    def __str__(self) -> str:
        return self.checks[0].replace("/", "-")


def blocked(check: str, host: str, rule: str) -> Break:
    """A packet filter rule keeps what is checked from being reached."""
    return Break((check,), host, f"iptables {rule.replace('CHANGE', '-I')}", f"iptables {rule.replace('CHANGE', '-D')}")


def moved(check: str, host: str, path: str) -> Break:
    name = path.rpartition("/")[2]
    return Break((check,), host, f"mv {path} /root/{name}", f"mv /root/{name} {path}")


def of_mode(check: str, host: str, path: str, mode: str) -> Break:
    return Break((check,), host, f"chmod 0666 {path}", f"chmod {mode} {path}")


def nowhere(check: str, namespace: str, daemonset: str) -> Break:
    def patch(value: str) -> str:
        selector = f'{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"kubestrap-test":{value}}}}}}}}}}}'
        return f"{K} -n {namespace} patch daemonset {daemonset} -p '{selector}'"

    return Break((check,), CP, patch('"none"'), patch("null"))


def edited(check: str, namespace: str, configmap: str, expression: str) -> Break:
    saved = f"/root/{configmap}.yaml"
    get = f"{K} -n {namespace} get configmap {configmap} -o yaml"
    return Break(
        (check,),
        CP,
        f"{get} > {saved} && sed -e '{expression}' {saved} | {K} replace -f -",
        f"sed -e /resourceVersion:/d {saved} | {K} replace -f - && rm {saved}",
    )


AGNHOST = "$(ctr -n k8s.io images ls -q | grep -m 1 agnhost)"
CLIENT_CERTIFICATE = paths.KUBELET_CLIENT_CERT
UNREACHABLE_API = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": "v1.broken.test"},
    "spec": {
        "group": "broken.test",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
        "service": {"name": "none", "namespace": "default"},
    },
}
BREAKS = (
    Break(("containerd-service",), WORKER, "systemctl disable -q containerd", "systemctl enable -q containerd"),
    Break(("kubelet-service",), WORKER, "systemctl disable -q kubelet", "systemctl enable -q kubelet"),
    Break(("kubelet-health", "ports"), WORKER, "systemctl stop kubelet", "systemctl start kubelet"),
    Break(
        ("runtime-health",),
        WORKER,
        "cd /run/containerd && mv containerd.sock containerd.sock.away",
        "cd /run/containerd && mv containerd.sock.away containerd.sock",
    ),
    Break(
        ("kubelet-version",),
        WORKER,
        f"mv {paths.BINARIES}/kubelet /root/ && ln -s /bin/false {paths.BINARIES}/kubelet",
        f"mv -f /root/kubelet {paths.BINARIES}/kubelet",
    ),
    Break(
        ("binaries",),
        WORKER,
        f"cp -a {paths.CNI_BINARIES}/bandwidth /root/ && printf x >> {paths.CNI_BINARIES}/bandwidth",
        f"cp -a /root/bandwidth {paths.CNI_BINARIES}/",
    ),
    Break(
        ("images",),
        WORKER,
        f"ctr -n k8s.io images label {AGNHOST} io.cri-containerd.pinned=",
        f"ctr -n k8s.io images label {AGNHOST} io.cri-containerd.pinned=pinned",
    ),
    Break(
        ("swap",),
        WORKER,
        "{ cat /proc/swaps; echo '/dev/broken partition 1 0 -2'; } > /run/swaps && mount --bind /run/swaps /proc/swaps",
        "umount /proc/swaps",
    ),
    Break(("sysctls",), WORKER, "echo 0 > /proc/sys/net/ipv4/ip_forward", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    of_mode("kubelet-files", WORKER, paths.KUBELET_CONF, "600"),
    Break(
        ("kubelet-certificate",),
        WORKER,
        f"readlink {CLIENT_CERTIFICATE} > /root/link && ln -sfn {paths.PKI}/ca.crt {CLIENT_CERTIFICATE}",
        f'ln -sfn "$(cat /root/link)" {CLIENT_CERTIFICATE}',
    ),
    Break(
        ("bootstrap-kubeconfig",),
        WORKER,
        f"touch {paths.BOOTSTRAP_KUBELET_CONF}",
        f"rm {paths.BOOTSTRAP_KUBELET_CONF}",
    ),
    moved("cni-configuration", WORKER, f"{paths.CNI_BINARIES}/portmap"),
    Break(("endpoint-name",), WORKER, "sed -i 's/ api[.]/ gone./' /etc/hosts", "sed -i 's/ gone[.]/ api./' /etc/hosts"),
    moved("receipt", WORKER, paths.RECEIPT),
    Break(
        ("certificates",),
        CP,
        f"cd {paths.PKI} && cp -a front-proxy-client.crt /root/ && cat etcd/server.crt > front-proxy-client.crt",
        f"cp -a /root/front-proxy-client.crt {paths.PKI}/",
    ),
    of_mode("pki-files", CP, f"{paths.PKI}/sa.key", "600"),
    of_mode("kubeconfig-files", CP, paths.SCHEDULER_CONF, "600"),
    of_mode("manifests", CP, f"{paths.MANIFESTS}/etcd.yaml", "600"),
    moved("static-pods", CP, f"{paths.MANIFESTS}/kube-scheduler.yaml"),
    of_mode("etcd-data", CP, "/var/lib/etcd", "700"),
    blocked("etcd-health", CP, "CHANGE INPUT -i lo -p tcp --dport 2381 -j REJECT"),
    blocked("api-server-health", CP, "CHANGE INPUT -p tcp --dport 6443 --syn -j REJECT"),
    blocked("controller-manager-health", CP, "CHANGE INPUT -i lo -p tcp --dport 10257 -j REJECT"),
    blocked("scheduler-health", CP, "CHANGE INPUT -i lo -p tcp --dport 10259 -j REJECT"),
    Break(
        ("nodes",),
        CP,
        f"{K} label node {CP} node-role.kubernetes.io/control-plane-",
        f"{K} label node {CP} node-role.kubernetes.io/control-plane=",
    ),
    Break(
        ("system-pods",),
        CP,
        f"{K} -n kube-system run broken --image=kubestrap.invalid/none --image-pull-policy=Never",
        f"{K} -n kube-system delete pod broken --force --grace-period=0",
    ),
    Break(
        ("coredns", "smoke/service-name"),
        CP,
        f"{K} -n kube-system scale deployment coredns --replicas=0",
        f"{K} -n kube-system scale deployment coredns --replicas=2",
    ),
    nowhere("kube-proxy", "kube-system", "kube-proxy"),
    nowhere("flannel", "kube-flannel", "kube-flannel-ds"),
    Break(
        ("bootstrap-tokens",),
        CP,
        f"{K} -n kube-system create secret generic bootstrap-token-zzzzzz --type=bootstrap.kubernetes.io/token "
        f"--from-literal=token-id=zzzzzz --from-literal=description='{RUN_DESCRIPTION}'",
        f"{K} -n kube-system delete secret bootstrap-token-zzzzzz",
    ),
    edited("cluster-info", "kube-public", "cluster-info", "s#server: https://.*#server: https://elsewhere:6443#"),
    edited("kubeadm-config", "kube-system", "kubeadm-config", "s/kubernetesVersion: v1/kubernetesVersion: v0/"),
    Break(("smoke/rollout",), CP, f"{K} cordon worker1 worker2", f"{K} uncordon worker1 worker2"),
    Break(
        ("smoke/exec", "smoke/logs"),
        WORKER,
        "iptables -I INPUT -p tcp --dport 10250 -j REJECT --reject-with tcp-reset",
        "iptables -D INPUT -p tcp --dport 10250 -j REJECT --reject-with tcp-reset",
        failing=CP,
    ),
    Break(
        ("smoke/service-address",),
        WORKER,
        "iptables -t raw -I PREROUTING -p tcp -d 10.96.0.0/12 -j DROP",
        "iptables -t raw -D PREROUTING -p tcp -d 10.96.0.0/12 -j DROP",
        failing=CP,
    ),
    Break(
        ("smoke/clean-up",),
        CP,
        # A namespace stays as long as an API cannot be asked what it holds there.
        f"printf %s '{json.dumps(UNREACHABLE_API)}' | {K} create -f -",
        f"{K} delete apiservice v1.broken.test",
    ),
)


def test_there_is_a_break_for_every_check() -> None:
    # The proxy is broken in test_ha.py: a single control plane has none.
    broken = [*(check for each in BREAKS for check in each.checks), "local-proxy"]
    assert sorted(broken) == sorted(verify.names())


def test_a_good_cluster_passes_every_check(cluster: Cluster) -> None:
    cluster.wait_ready([CP, WORKER, "worker2"])
    said = cluster.kubestrap("verify", status=None)
    assert said.returncode == 0, said.stdout + said.stderr
    made = {line.split()[2] for line in said.stdout.splitlines()}
    assert made == set(verify.names())


def test_a_failed_check_ends_the_command_with_its_name(cluster: Cluster) -> None:
    cluster.on(WORKER, f"chmod 0666 {paths.KUBELET_CONFIG}")
    try:
        said = cluster.kubestrap("verify", "--only", "kubelet-files,swap", status=1)
    finally:
        cluster.on(WORKER, f"chmod 0644 {paths.KUBELET_CONFIG}")
    assert "1 check failed: kubelet-files on worker1" in said.stderr


@pytest.mark.parametrize("broken", BREAKS, ids=str)
def test_a_check_fails_by_name_when_what_it_checks_is_broken(cluster: Cluster, broken: Break) -> None:
    inventory = inventories.load(cluster.inventory)
    contents = bundle_of(inventory).contents
    expected = {(broken.failing or broken.host, check) for check in broken.checks}
    cluster.on(broken.host, broken.spoil)
    try:
        seen = until(
            lambda: failed(verify.verify(_strict(inventory), contents, only=broken.checks, limits=SHORT)),
            lambda found: expected <= found,
        )
        assert expected <= seen
    finally:
        cluster.on(broken.host, broken.mend)
    # Another smoke test each time would cost minutes: one at the end is for all of them.
    mended = [check for check in broken.checks if not check.startswith("smoke/")]
    if mended:
        left = until(lambda: failed(verify.verify(inventory, contents, only=mended)), lambda found: not found)
        assert left == set()


def test_the_mended_cluster_passes_every_check(cluster: Cluster) -> None:
    test_a_good_cluster_passes_every_check(cluster)


def failed(outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
    return {(outcome.host, outcome.check) for outcome in outcomes if outcome.problems}


def until(
    look: Callable[[], set[tuple[str, str]]], enough: Callable[[set[tuple[str, str]]], bool]
) -> set[tuple[str, str]]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if enough(found) or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _strict(inventory: Inventory) -> Inventory:
    """The lab bears swap, as the machine under it may have some; here none is expected, so that some is found."""
    config = {key: value for key, value in inventory.cluster.kubelet.config.items() if key != "failSwapOn"}
    kubelet = inventory.cluster.kubelet.model_copy(update={"config": config})
    return inventory.model_copy(update={"cluster": inventory.cluster.model_copy(update={"kubelet": kubelet})})
