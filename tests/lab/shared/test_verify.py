"""Every check fails by its name when what it checks is broken, and passes again when that is mended.

What does not get in each other's way is broken together. Costs about four minutes on a cluster of one control plane and
two workers that is there already, and is left as it was. What is not broken here is in tests/verify: `clock` (the
machines of a lab have their host's) and `etcd-size`; `etcd-alarms` is in test_etcd.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from bootstrap import inventory as inventories
from bootstrap import paths, verify
from bootstrap.joining import RUN_DESCRIPTION
from bootstrap.phases import prepare
from bootstrap.run import bundle_of
from bootstrap.spec import Inventory
from bootstrap.verify import Outcome
from bootstrap.verify.smoke import UNTIL, Limits
from tests.lab.clusters import Cluster

K = f"{paths.BINARIES}/kubectl --kubeconfig {paths.ADMIN_CONF}"
CP, WORKER, OTHER = "cp1", "worker1", "worker2"
SHORT = Limits(start=0, rollout=20, reach=3, clean_up=15)
PATIENCE = 240
ELSEWHERE = {"clock", "etcd-alarms", "etcd-size", "keepalived", "local-proxy", "virtual-address"}


@dataclass(frozen=True)
class Break:
    """What `spoil` does on `host` makes `check` fail, and `mend` undoes.

    The check is made on `host`, or on `CP` where it is one of the cluster; `naming` is in what it says.
    """

    check: str
    host: str
    spoil: str
    mend: str
    naming: str = ""

    @property
    def made_on(self) -> str:
        return CP if self.check.startswith("smoke/") or self.check in CLUSTER else self.host


CLUSTER = {name for name, on, _ in verify.describe() if on == "cluster"}


def also(check: str, host: str, naming: str = "") -> Break:
    """What the break before this one breaks too."""
    return Break(check, host, "true", "true", naming)


def blocked(check: str, host: str, rule: str, naming: str = "") -> Break:
    """A packet filter rule keeps what is checked from being reached."""
    return Break(
        check, host, f"iptables {rule.replace('CHANGE', '-I')}", f"iptables {rule.replace('CHANGE', '-D')}", naming
    )


def moved(check: str, host: str, path: str, naming: str = "") -> Break:
    name = path.rpartition("/")[2]
    return Break(check, host, f"mv {path} /root/{name}", f"mv /root/{name} {path}", naming)


def of_mode(check: str, host: str, path: str, mode: str) -> Break:
    return Break(check, host, f"chmod 0666 {path}", f"chmod {mode} {path}", path)


def changed(check: str, host: str, path: str, expression: str, naming: str = "") -> Break:
    """A file is changed by sed, and gets back its contents, mode and time."""
    saved = f"/root/{check}.saved"
    return Break(check, host, f"cp -a {path} {saved} && sed -i '{expression}' {path}", f"cp -a {saved} {path}", naming)


def replaced(check: str, host: str, path: str, by: str, naming: str = "") -> Break:
    saved = f"/root/{check}.saved"
    return Break(check, host, f"cp -a {path} {saved} && cat {by} > {path}", f"cp -a {saved} {path}", naming)


def object_edited(check: str, namespace: str, configmap: str, expression: str) -> Break:
    saved = f"/root/{configmap}.yaml"
    get = f"{K} -n {namespace} get configmap {configmap} -o yaml"
    return Break(
        check,
        CP,
        f"{get} > {saved} && sed -e '{expression}' {saved} | {K} replace -f -",
        f"sed -e /resourceVersion:/d {saved} | {K} replace -f - && rm {saved}",
    )


def nowhere(check: str, namespace: str, daemonset: str) -> Break:
    def patch(value: str) -> str:
        selector = f'{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"kubestrap-test":{value}}}}}}}}}}}'
        return f"{K} -n {namespace} patch daemonset {daemonset} -p '{selector}'"

    return Break(check, CP, patch('"none"'), patch("null"))


def condition(check: str, node: str, kind: str, status: str, mended: str) -> Break:
    def patch(value: str) -> str:
        conditions = json.dumps({"status": {"conditions": [{"type": kind, "status": value}]}})
        return f"{K} patch node {node} --subresource=status -p '{conditions}'"

    return Break(check, CP, patch(status), patch(mended), node)


def etcd(call: str, body: str) -> str:
    pki = f"{paths.PKI}/etcd"
    who = f"--client-certificate {pki}/healthcheck-client.crt --client-key {pki}/healthcheck-client.key"
    where = f"--kubeconfig /dev/null --server https://127.0.0.1:2379 --certificate-authority {pki}/ca.crt"
    return f'echo "{body}" | {paths.BINARIES}/kubectl {where} {who} create --raw {call} -f -'


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
MEMBER = 's/.*"ID":"\\([0-9]*\\)", *"peerURLs":\\["https:..192.0.2.1:2380"\\].*/\\1/p'
PROXY_POD = f"{K} -n kube-system get pod -l k8s-app=kube-proxy --field-selector spec.nodeName={CP}"
KILL_PROXY = (
    # Restarts of a Pod that has just begun are not told.
    f"began=$(date -d $({PROXY_POD} -o jsonpath={{.items[0].status.startTime}}) +%s); "
    "while [ $(($(date +%s) - began)) -lt 190 ]; do sleep 1; done; "
    "for process in /proc/[0-9]*; do "
    '[ "$(cat $process/comm 2>/dev/null)" != kube-proxy ] || kill -KILL ${process#/proc/}; done'
)
NEW_PROXY = f"{K} -n kube-system delete $({PROXY_POD} -o name)"

FILES_OF_A_WORKER = (
    Break("containerd-service", WORKER, "systemctl disable -q containerd", "systemctl enable -q containerd"),
    Break("kubelet-service", WORKER, "systemctl disable -q kubelet", "systemctl enable -q kubelet"),
    Break(
        "binaries",
        WORKER,
        f"cp -a {paths.CNI_BINARIES}/bandwidth /root/ && printf x >> {paths.CNI_BINARIES}/bandwidth",
        f"cp -a /root/bandwidth {paths.CNI_BINARIES}/",
        "bandwidth",
    ),
    Break(
        "images",
        WORKER,
        f"ctr -n k8s.io images label {AGNHOST} io.cri-containerd.pinned=",
        f"ctr -n k8s.io images label {AGNHOST} io.cri-containerd.pinned=pinned",
        "not pinned",
    ),
    moved("cni-configuration", WORKER, f"{paths.CNI_BINARIES}/portmap", "portmap"),
    Break(
        "swap",
        WORKER,
        "{ cat /proc/swaps; echo '/dev/broken partition 1 0 -2'; } > /run/swaps && mount --bind /run/swaps /proc/swaps",
        "umount /proc/swaps",
    ),
    Break(
        "swap-at-boot",
        WORKER,
        "echo '/dev/broken none swap sw 0 0' >> /etc/fstab",
        "sed -i /broken/d /etc/fstab",
        "/dev/broken",
    ),
    Break("sysctls", WORKER, "echo 0 > /proc/sys/net/ipv4/ip_forward", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    Break(
        "sysctls-at-boot",
        WORKER,
        "echo net.ipv4.ip_forward=0 > /etc/sysctl.d/99-broken.conf",
        "rm /etc/sysctl.d/99-broken.conf",
        "net.ipv4.ip_forward will be 0",
    ),
    moved("kernel-modules", WORKER, prepare.MODULES_FILE),
    changed("runtime-configuration", WORKER, paths.CONTAINERD_CONFIG, "s/SystemdCgroup = true/SystemdCgroup = false/"),
    also("services-current", WORKER, paths.CONTAINERD_CONFIG),
    of_mode("runtime-files", WORKER, paths.CONTAINERD_UNIT, "644"),
    of_mode("kubelet-files", WORKER, paths.KUBELET_FLAGS, "644"),
    Break(
        "manifest-strangers", WORKER, f"touch {paths.MANIFESTS}/stranger", f"rm {paths.MANIFESTS}/stranger", "stranger"
    ),
    moved("receipt", WORKER, paths.RECEIPT),
    Break(
        "bootstrap-kubeconfig", WORKER, f"touch {paths.BOOTSTRAP_KUBELET_CONF}", f"rm {paths.BOOTSTRAP_KUBELET_CONF}"
    ),
    Break("leftovers", WORKER, "touch /etc/.hosts.kubestrap", "rm /etc/.hosts.kubestrap", "/etc/.hosts.kubestrap"),
    Break(
        "kubelet-certificate",
        WORKER,
        f"readlink {CLIENT_CERTIFICATE} > /root/link && ln -sfn {paths.PKI}/ca.crt {CLIENT_CERTIFICATE}",
        f'ln -sfn "$(cat /root/link)" {CLIENT_CERTIFICATE}',
    ),
    changed("kubelet-rotation", WORKER, paths.KUBELET_CONFIG, "s/rotateCertificates: true/rotateCertificates: false/"),
    replaced(
        "kubelet-serving-certificate", WORKER, f"{paths.KUBELET}/pki/kubelet.crt", f"{paths.PKI}/ca.crt", "is not for"
    ),
    changed(
        "kubelet-kubeconfig", WORKER, paths.KUBELET_CONF, "s#server: .*#server: https://elsewhere:6443#", "elsewhere"
    ),
    Break(
        "endpoint-entry",
        WORKER,
        "sed -n 's/.* \\(api[.].*\\)/192.0.2.1 \\1/p' /etc/hosts > /root/stale && cat /root/stale >> /etc/hosts",
        "sed -i '/^192[.]0[.]2[.]1 /d' /etc/hosts",
        "192.0.2.1",
    ),
    Break(
        "resolver",
        WORKER,
        "cat /etc/resolv.conf > /root/resolv.conf && echo nameserver 127.0.0.1 >> /etc/resolv.conf",
        "cat /root/resolv.conf > /etc/resolv.conf",
    ),
    moved("pod-network", WORKER, "/run/flannel/subnet.env"),
    Break(
        "disk-space",
        WORKER,
        f"mount -t tmpfs -o size=64k,nr_inodes=4 none {paths.STATE} && "
        f"cd {paths.STATE} && touch a b && head -c 64k /dev/zero > c",
        f"umount {paths.STATE}",
        paths.STATE,
    ),
    also("inodes", WORKER, paths.STATE),
)
SERVICES_OF_WORKERS = (
    Break("kubelet-health", WORKER, "systemctl stop kubelet", "systemctl start kubelet"),
    also("ports", WORKER, "10248"),
    Break(
        "port-owners",
        WORKER,
        "systemd-run -q --unit stranger systemd-socket-activate -a -l 10250 /bin/cat",
        "systemctl stop stranger",
        "10250",
    ),
    # The kubelet, which would say otherwise, is stopped.
    condition("nodes", WORKER, "Ready", "False", "True"),
    condition("node-conditions", WORKER, "MemoryPressure", "True", "False"),
    Break(
        "kubelet-version",
        WORKER,
        f"mv {paths.BINARIES}/kubelet /root/ && ln -s /bin/false {paths.BINARIES}/kubelet",
        f"mv -f /root/kubelet {paths.BINARIES}/kubelet",
    ),
    Break(
        "runtime-health",
        WORKER,
        "cd /run/containerd && mv containerd.sock containerd.sock.away",
        "cd /run/containerd && mv containerd.sock.away containerd.sock",
    ),
    blocked("kube-proxy-health", WORKER, "CHANGE INPUT -i lo -p tcp --dport 10256 -j REJECT"),
    Break("endpoint-name", WORKER, "sed -i 's/ api[.]/ gone./' /etc/hosts", "sed -i 's/ gone[.]/ api./' /etc/hosts"),
    blocked("api-service", OTHER, "-t raw CHANGE OUTPUT -p tcp -d 10.96.0.1 -j DROP"),
    Break(
        "kubelet-access",
        OTHER,
        f"cp -a {paths.KUBELET_CONFIG} /root/config.yaml && sed -i -e '/anonymous:/,/enabled/s/false/true/' "
        f"-e 's/mode: Webhook/mode: AlwaysAllow/' {paths.KUBELET_CONFIG} && systemctl restart kubelet",
        f"cp -a /root/config.yaml {paths.KUBELET_CONFIG} && systemctl restart kubelet",
        "given to anybody",
    ),
    also("kubelet-configuration", OTHER, f"{OTHER}: authorization.mode"),
)
THE_CONTROL_PLANE = (
    Break("restarts", CP, KILL_PROXY, NEW_PROXY, "kube-proxy"),
    replaced(
        "certificates", CP, f"{paths.PKI}/front-proxy-client.crt", f"{paths.PKI}/etcd/server.crt", "front-proxy-client"
    ),
    replaced(
        "ca-certificates", CP, f"{paths.PKI}/front-proxy-ca.crt", f"{paths.PKI}/etcd/peer.crt", "no certificate of a CA"
    ),
    of_mode("pki-files", CP, f"{paths.PKI}/sa.key", "600"),
    of_mode("kubeconfig-files", CP, paths.SCHEDULER_CONF, "600"),
    changed(
        "kubeconfig-servers", CP, paths.CONTROLLER_MANAGER_CONF, "s#server: .*#server: https://elsewhere#", "elsewhere"
    ),
    of_mode("manifests", CP, f"{paths.MANIFESTS}/etcd.yaml", "600"),
    of_mode("etcd-data", CP, "/var/lib/etcd", "700"),
    Break(
        "node-labels",
        CP,
        f"{K} label node {CP} node-role.kubernetes.io/control-plane-",
        f"{K} label node {CP} node-role.kubernetes.io/control-plane=",
    ),
    Break(
        "node-taints",
        CP,
        f"{K} taint node {OTHER} broken=yes:PreferNoSchedule",
        f"{K} taint node {OTHER} broken:PreferNoSchedule-",
        OTHER,
    ),
    Break(
        "system-pods",
        CP,
        f"{K} -n kube-system run coredns --image=kubestrap.invalid/none --image-pull-policy=Never",
        f"{K} -n kube-system delete pod coredns --force --grace-period=0",
    ),
    also("component-images", CP, "kubestrap.invalid/none"),
    Break(
        "bootstrap-tokens",
        CP,
        f"{K} -n kube-system create secret generic bootstrap-token-zzzzzz --type=bootstrap.kubernetes.io/token "
        f"--from-literal=token-id=zzzzzz --from-literal=description='{RUN_DESCRIPTION}'",
        f"{K} -n kube-system delete secret bootstrap-token-zzzzzz",
    ),
    object_edited(
        "cluster-info", "kube-public", "cluster-info", "s#server: https://.*#server: https://elsewhere:6443#"
    ),
    object_edited("kubeadm-config", "kube-system", "kubeadm-config", "s/kubernetesVersion: v1/kubernetesVersion: v0/"),
    object_edited("kubelet-config", "kube-system", "kubelet-config", "s/cgroupDriver: systemd/cgroupDriver: cgroupfs/"),
    Break(
        "rights",
        CP,
        f"{K} get clusterrolebinding kubeadm:get-nodes -o yaml > /root/rights.yaml && "
        f"{K} delete clusterrolebinding kubeadm:get-nodes",
        f"sed -e /resourceVersion:/d -e /uid:/d /root/rights.yaml | {K} create -f -",
        "kubeadm:get-nodes",
    ),
    Break(
        "anonymous-rights",
        CP,
        f"{K} create clusterrolebinding broken --clusterrole=cluster-admin --user=system:anonymous",
        f"{K} delete clusterrolebinding broken",
    ),
    Break(
        "etcd-members",
        CP,
        etcd("/v3/cluster/member/add", '{\\"peerURLs\\":[\\"https://192.0.2.1:2380\\"],\\"isLearner\\":true}'),
        f"id=$({etcd('/v3/cluster/member/list', '{}')} | sed -n '{MEMBER}') && "
        + etcd("/v3/cluster/member/remove", '{\\"ID\\":\\"$id\\"}'),
        "192.0.2.1",
    ),
)
HEALTH = (
    blocked("etcd-health", CP, "CHANGE INPUT -i lo -p tcp --dport 2381 -j REJECT"),
    blocked("controller-manager-health", CP, "CHANGE INPUT -i lo -p tcp --dport 10257 -j REJECT"),
    blocked("scheduler-health", CP, "CHANGE INPUT -i lo -p tcp --dport 10259 -j REJECT"),
    blocked("api-server-health", CP, "CHANGE INPUT -p tcp --dport 6443 --syn -j REJECT"),
)
WORKLOADS = (
    moved("static-pods", CP, f"{paths.MANIFESTS}/kube-scheduler.yaml"),
    also("leaders", CP, "kube-scheduler"),
    nowhere("kube-proxy", "kube-system", "kube-proxy"),
    nowhere("flannel", "kube-flannel", "kube-flannel-ds"),
)
TRAFFIC = (
    Break(
        "coredns",
        CP,
        f"{K} -n kube-system scale deployment coredns --replicas=0",
        f"{K} -n kube-system scale deployment coredns --replicas=2",
    ),
    also("smoke/service-name", CP, f"on {CP}:"),
    blocked(
        "smoke/exec", WORKER, "CHANGE INPUT -p tcp --dport 10250 -j REJECT --reject-with tcp-reset", f"on {WORKER}:"
    ),
    also("smoke/logs", WORKER, f"on {WORKER}:"),
    blocked("smoke/service-address", OTHER, "-t raw CHANGE PREROUTING -p tcp -d 10.96.0.0/12 -j DROP", f"on {OTHER}:"),
    # One direction of one pair of nodes.
    blocked("smoke/pods", OTHER, "CHANGE INPUT -p udp --dport 8472 -s $CP -j DROP", f"on {CP}:"),
)
ROLLOUT = (
    Break("smoke/rollout", CP, f"{K} cordon {WORKER} {OTHER}", f"{K} uncordon {WORKER} {OTHER}"),
    Break(
        "smoke/clean-up",
        CP,
        # A namespace stays as long as an API cannot be asked what it holds there.
        f"printf %s '{json.dumps(UNREACHABLE_API)}' | {K} create -f -",
        f"{K} delete apiservice v1.broken.test",
    ),
)
BATCHES = {
    "files of a worker": FILES_OF_A_WORKER,
    "services of workers": SERVICES_OF_WORKERS,
    "control plane": THE_CONTROL_PLANE,
    "health": HEALTH,
    "workloads": WORKLOADS,
    "traffic": TRAFFIC,
    "rollout": ROLLOUT,
}


def _elsewhere(inventory: Inventory) -> Inventory:
    """An inventory that says of Nodes what is not so."""
    networking = inventory.cluster.networking.model_copy(update={"pod_subnet": IPv4Network("10.99.0.0/16")})
    cluster = inventory.cluster.model_copy(update={"kubernetes_version": "1.37.1", "networking": networking})
    hosts = [
        host.model_copy(update={"node_address": IPv4Address("192.0.2.1"), "roles": ("control-plane",)})
        if host.name == OTHER
        else host
        for host in inventory.hosts
    ]
    return inventory.model_copy(update={"cluster": cluster, "hosts": tuple(hosts)})


NODES = {
    "node-versions": OTHER,
    "node-addresses": "192.0.2.1",
    "node-subnets": "10.99.0.0/16",
    "api-endpoints": "not lead",
}


def test_there_is_a_break_for_every_check() -> None:
    broken = [each.check for batch in BATCHES.values() for each in batch]
    assert sorted([*broken, *NODES, *ELSEWHERE]) == sorted(verify.names())


def test_a_failed_check_ends_the_command_with_its_name(cluster: Cluster) -> None:
    cluster.on(WORKER, f"chmod 0666 {paths.KUBELET_CONFIG}")
    try:
        said = cluster.kubestrap("verify", "--only", "kubelet-files,swap", status=1)
    finally:
        cluster.on(WORKER, f"chmod 0644 {paths.KUBELET_CONFIG}")
    assert "1 check failed: kubelet-files on worker1" in said.stderr


def test_an_inventory_that_is_not_of_this_cluster_is_told_so(cluster: Cluster) -> None:
    inventory = inventories.load(cluster.inventory)
    outcomes = verify.verify(_elsewhere(inventory), bundle_of(inventory).contents, only=list(NODES))
    told = {outcome.check: outcome.problems for outcome in outcomes if outcome.host == CP}
    assert [check for check, text in NODES.items() if not any(text in problem for problem in told[check])] == []


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_a_check_fails_by_name_when_what_it_checks_is_broken(cluster: Cluster, batch: Sequence[Break]) -> None:
    inventory = inventories.load(cluster.inventory)
    contents = bundle_of(inventory).contents
    checks = [each.check for each in batch]

    def unseen() -> list[str]:
        outcomes = verify.verify(_strict(inventory), contents, only=checks, limits=SHORT)
        return [each.check for each in batch if not any(_tells(outcome, each) for outcome in outcomes)]

    spoilt = []
    try:
        for each in batch:
            spoilt.append(each)
            cluster.on(each.host, _filled(each.spoil, cluster))
        assert until(unseen) == []
    finally:
        mends = [(each.check, cluster.ssh(each.host, _filled(each.mend, cluster))) for each in reversed(spoilt)]
    assert [(check, ran.stderr) for check, ran in mends if ran.returncode] == []
    # Another smoke test each time would cost minutes: one at the end is for all of them.
    mended = [check for check in checks if not check.startswith("smoke/")]
    if mended:
        assert until(lambda: failed(verify.verify(inventory, contents, only=mended))) == []


def test_what_a_killed_verify_left_is_removed_by_a_later_one(cluster: Cluster) -> None:
    alive = "kubestrap-verify-alive"
    # Those of the tests before may still be going.
    cluster.kubectl(f"wait --for=delete namespace -l {UNTIL} --timeout={PATIENCE}s")
    cluster.kubectl(f"create namespace {alive}")
    cluster.kubectl(f"label namespace {alive} {UNTIL}=9999999999")
    try:
        with cluster.start("verify", "--only", "smoke") as run:
            deadline = time.monotonic() + PATIENCE
            while not (killed := [name for name in smoke_namespaces(cluster) if name != alive]):
                assert time.monotonic() < deadline
            run.kill()
        assert smoke_namespaces(cluster) == sorted([alive, *killed])
        # Its time is over.
        cluster.kubectl(f"label --overwrite namespace {killed[0]} {UNTIL}=1")
        cluster.kubestrap("verify", "--only", "smoke")
        assert smoke_namespaces(cluster) == [alive]
        assert cluster.on(CP, "ls -d /run/kubestrap-verify-* 2>/dev/null || :") == ""
    finally:
        cluster.kubectl(f"delete namespace {alive}")


def smoke_namespaces(cluster: Cluster) -> list[str]:
    return sorted(item["metadata"]["name"] for item in cluster.get(f"namespaces -l {UNTIL}")["items"])


def test_the_mended_cluster_passes_every_check(cluster: Cluster) -> None:
    cluster.wait_ready([CP, WORKER, OTHER])
    said = cluster.kubestrap("verify", status=None)
    assert said.returncode == 0, said.stdout + said.stderr
    made = {line.split()[2] for line in said.stdout.splitlines()}
    assert made == set(verify.names())


def _filled(command: str, cluster: Cluster) -> str:
    return command.replace("$CP", cluster.lab.machine(CP).address)


def _tells(outcome: Outcome, broken: Break) -> bool:
    return (outcome.host, outcome.check) == (broken.made_on, broken.check) and any(
        broken.naming in problem for problem in outcome.problems
    )


def failed(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{outcome.host} {outcome.check}: {outcome.problems}" for outcome in outcomes if outcome.problems]


def until(look: Callable[[], list[str]]) -> list[str]:
    """Look again until nothing is left to tell, or patience ends."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _strict(inventory: Inventory) -> Inventory:
    """The lab bears swap, as the machine under it may have some; here none is expected, so that some is found."""
    config = {key: value for key, value in inventory.cluster.kubelet.config.items() if key != "failSwapOn"}
    kubelet = inventory.cluster.kubelet.model_copy(update={"config": config})
    return inventory.model_copy(update={"cluster": inventory.cluster.model_copy(update={"kubelet": kubelet})})
