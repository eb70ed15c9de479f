"""Preflight: the script runs for real, over a small tree that stands for a machine."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from bootstrap import paths, preflight
from bootstrap.errors import HostsFailed, PreflightFailed, Problem, StepFailed
from bootstrap.preflight import Examination, Workflow
from bootstrap.spec import Cluster, Host, Kubelet
from bootstrap.transport.local import LocalHost

TOOLS = [
    "sh",
    "awk",
    "sed",
    "grep",
    "cat",
    "tr",
    "sort",
    "ls",
    "date",
    "printf",
    "head",
    "zcat",
    "gzip",
    "mount",
    "umount",
    "losetup",
    "flock",
    "cp",
    "tar",
    "sysctl",
    "sleep",
    "rm",
    "wc",
]
ANSWERS = {
    "id": "echo 0",
    "uname": "case $1 in -m) echo x86_64 ;; *) echo 6.1.0-30-amd64 ;; esac",
    "nproc": "echo 4",
    "df": "echo head; echo /dev/vda1 50000000 10000000 40000000 20% /",
    "stat": "echo 3000000 2000000",
    "ip": "",
    "mktemp": "exit 1",  # no disk is measured: a busy machine's would be slow
    "systemctl": "exit 3",
    "modprobe": "exit 0",
    "getent": "exit 0",
    "iptables": "",
    "conntrack": "",
    "ethtool": "",
}
FILES = {
    "proc/1/comm": "systemd\n",
    "proc/meminfo": "MemTotal:        4000000 kB\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "proc/filesystems": "nodev\toverlay\n",
    "proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
    "proc/sys/net/ipv4/ip_forward": "1\n",
    "proc/net/tcp": "  sl  local_address rem_address   st\n",
    "proc/net/tcp6": "  sl  local_address rem_address   st\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/resolv.conf": "nameserver 192.0.2.1\n",
    "opt/x": "",
    "usr/local/x": "",
    "var/lib/x": "",
    "run/systemd/system/x": "",
}
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "flannel.1\t0001F40A\t0001F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "tun0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n"
)
CONTROL_PLANE = Host(name="m1", address="192.0.2.11", roles=("control-plane",))
WORKER = Host(name="w1", address="192.0.2.21", roles=("worker",))


class Machine:
    """A machine that is fit for use, until a test takes something from it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        for tool in TOOLS:
            place = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
            assert place, tool
            (self.programs / tool).symlink_to(place)
        for name, answer in ANSWERS.items():
            self.answer(name, answer)
        for path, text in FILES.items():
            self.write(path, text)
        for namespace in ("net", "pid", "ipc", "uts", "mnt"):
            self.write(f"proc/self/ns/{namespace}", "")

    def write(self, path: str, text: str) -> None:
        place = self.root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def answer(self, program: str, script: str) -> None:
        (self.programs / program).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / program).chmod(0o755)

    def listen(self, port: int, pid: int, program: str, *, kind: str = "tcp", address: str = "00000000") -> None:
        inode = 1000 + port
        state = "07" if kind == "udp" else "0A"
        row = f"  0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
        with (self.root / "proc/net" / kind).open("a") as table:
            table.write(row)
        self.write(f"proc/{pid}/comm", f"{program}\n")
        (self.root / f"proc/{pid}/fd").mkdir(exist_ok=True)
        (self.root / f"proc/{pid}/fd/{port}").symlink_to(f"socket:[{inode}]")

    def write_slowly(self, dd: str = "sleep 0.08") -> None:
        self.answer("mktemp", 'exec /usr/bin/mktemp "$@"')
        self.answer("dd", dd)

    def receipt(self, *files: str) -> None:
        self.write(paths.RECEIPT, "".join(f"file\t{path}\n" for path in files))

    def examine(
        self,
        node: Host = CONTROL_PLANE,
        cluster: Cluster | None = None,
        workflow: Workflow = "init",
        *,
        proxied: bool = False,
        adopted: bool = False,
    ) -> Examination:
        script = preflight.script(
            node,
            cluster or Cluster(),
            workflow=workflow,
            platform="linux/amd64",
            proxied=proxied,
            adopted=adopted,
            root=str(self.root),
        )
        sh = f"PATH={shlex.quote(str(self.programs))} sh -s"
        result = LocalHost(node.name).run(sh, stdin=script, seconds=120)
        assert result.stderr == b""
        return preflight.read(node.name, result.stdout.decode(), cluster or Cluster(), sent=0, received=1e12)

    def found(
        self, node: Host = CONTROL_PLANE, cluster: Cluster | None = None, workflow: Workflow = "init"
    ) -> list[tuple[str, str]]:
        return [(problem.level, problem.check) for problem in self.examine(node, cluster, workflow).problems]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_fit_machine_has_no_problem(machine: Machine) -> None:
    assert machine.examine().problems == ()
    assert machine.examine(WORKER, workflow="join").problems == ()


BREAKS: dict[str, tuple[Callable[[Machine], object], tuple[str, str]]] = {
    "not root": (lambda m: m.answer("id", "echo 1000"), ("error", "IsPrivilegedUser")),
    "another platform": (
        lambda m: m.answer("uname", "case $1 in -m) echo aarch64 ;; *) echo 6.1.0 ;; esac"),
        ("error", "Architecture"),
    ),
    "no systemd": (lambda m: m.write("proc/1/comm", "tini\n"), ("error", "Systemd")),
    "one CPU": (lambda m: m.answer("nproc", "echo 1"), ("error", "NumCPU")),
    "little memory": (lambda m: m.write("proc/meminfo", "MemTotal: 1000000 kB\n"), ("error", "Mem")),
    "full disk": (lambda m: m.answer("df", "echo; echo x 50000000 49000000 1000000 98% /"), ("error", "DiskSpace")),
    "nearly full disk": (
        lambda m: m.answer("df", "echo; echo x 50000000 45000000 5000000 90% /"),
        ("warning", "DiskSpace"),
    ),
    "swap": (lambda m: m.write("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n"), ("warning", "Swap")),
    "old kernel": (
        lambda m: m.answer("uname", "case $1 in -m) echo x86_64 ;; *) echo 4.19.0-27-amd64 ;; esac"),
        ("error", "SystemVerification"),
    ),
    "kernel built without namespaces": (
        lambda m: m.write("boot/config-6.1.0-30-amd64", "# CONFIG_NAMESPACES is not set\n"),
        ("error", "SystemVerification"),
    ),
    "no network namespaces": (lambda m: m.remove("proc/self/ns/net"), ("error", "SystemVerification")),
    "no overlay": (
        lambda m: (m.write("proc/filesystems", "ext4\n"), m.answer("modprobe", '[ "$3" != overlay ]')),
        ("error", "SystemVerification"),
    ),
    "no pids controller": (
        lambda m: m.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n"),
        ("error", "SystemVerification"),
    ),
    "no br_netfilter": (
        lambda m: (m.remove("proc/sys/net/bridge/bridge-nf-call-iptables"), m.answer("modprobe", "exit 1")),
        ("error", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"),
    ),
    "no losetup": (lambda m: (m.programs / "losetup").unlink(), ("error", "FileExisting-losetup")),
    "no iptables": (lambda m: (m.programs / "iptables").unlink(), ("warning", "FileExisting-iptables")),
    "another kubelet": (
        lambda m: m.answer("systemctl", '[ "$3" = kubelet ]'),
        ("error", "Service-kubelet"),
    ),
    "docker": (lambda m: m.answer("systemctl", '[ "$3" = docker ]'), ("warning", "Service-docker")),
    "firewalld": (lambda m: m.answer("systemctl", '[ "$3" = firewalld ]'), ("warning", "Firewalld")),
    "name not resolved": (lambda m: m.answer("getent", "exit 2"), ("warning", "Hostname")),
    "another address": (
        lambda m: (
            m.answer("ip", "echo 2: eth0 inet 192.0.2.11/24 scope global eth0"),
            m.write("var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.1 --v=2"\n'),
        ),
        ("error", "NodeAddress"),
    ),
    "no name server": (lambda m: m.write("etc/resolv.conf", ""), ("warning", "ResolvConf")),
    "itself as name server": (
        lambda m: m.write("etc/resolv.conf", "nameserver 127.0.0.1\n"),
        ("warning", "ResolvConf"),
    ),
    "API port taken": (lambda m: m.listen(6443, 77, "nginx"), ("error", "Port-6443")),
    "kubelet port taken": (lambda m: m.listen(10250, 77, "kubelet"), ("error", "Port-10250")),
    "no inodes": (lambda m: m.answer("stat", "echo 3000000 900"), ("error", "Inodes")),
    "few inodes": (lambda m: m.answer("stat", "echo 3000000 100000"), ("warning", "Inodes")),
    "slow disk": (lambda m: m.write_slowly(), ("warning", "EtcdDisk")),
    "address by DHCP": (
        lambda m: m.answer("ip", "echo '2: eth0 inet 192.0.2.11/24 scope global dynamic eth0 valid_lft 9sec'"),
        ("warning", "DHCP"),
    ),
    "route into the Service network": (
        lambda m: m.write("proc/net/route", ROUTES.format("00056A0A", "00FFFFFF")),
        ("error", "Routes"),
    ),
    "route that holds the Pod network": (
        lambda m: m.write("proc/net/route", ROUTES.format("0000F40A", "0000FCFF")),
        ("error", "Routes"),
    ),
    "overlay port taken": (lambda m: m.listen(8472, 77, "openvpn", kind="udp"), ("error", "Port-8472")),
    "kube-proxy's port taken": (lambda m: m.listen(10256, 77, "nginx"), ("error", "Port-10256")),
    "kubeconfig of others": (
        lambda m: m.write("etc/kubernetes/admin.conf", "x"),
        ("error", "FileAvailable--etc-kubernetes-admin.conf"),
    ),
    "kubelet's state of others": (
        lambda m: m.write("var/lib/kubelet/pki/kubelet.key", "x"),
        ("error", "DirAvailable--var-lib-kubelet"),
    ),
    "CNI configuration of others": (
        lambda m: m.write("etc/cni/net.d/10-calico.conflist", "x"),
        ("error", "FileAvailable--etc-cni-net.d-10-calico.conflist"),
    ),
    "CNI configuration of others that comes after ours": (
        lambda m: m.write("etc/cni/net.d/99-theirs.conflist", "x"),
        ("warning", "FileAvailable--etc-cni-net.d-99-theirs.conflist"),
    ),
    "Pods of others": (
        lambda m: m.write("proc/77/cgroup", "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n"),
        ("error", "RunningPods"),
    ),
    "manifest of others": (
        lambda m: m.write("etc/kubernetes/manifests/etcd.yaml", "x"),
        ("error", "FileAvailable--etc-kubernetes-manifests-etcd.yaml"),
    ),
    "etcd data of others": (lambda m: m.write("var/lib/etcd/member/x", "x"), ("error", "DirAvailable--var-lib-etcd")),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_wrong_is_found_under_its_name_and_nothing_else(machine: Machine, what: str) -> None:
    change, expected = BREAKS[what]
    change(machine)
    assert machine.found() == [expected]


def test_every_name_it_can_tell_is_known_to_the_list_of_names(machine: Machine) -> None:
    assert preflight.unknown([name for _, (_, name) in BREAKS.values()]) == []


def test_machines_that_fetch_need_one_of_two_programs(machine: Machine) -> None:
    fetching = Cluster.model_validate({"bundle": {"url": "https://files.example.com/kubernetes"}})
    assert machine.found() == []
    assert machine.found(cluster=fetching) == [("error", "FileExisting-curl")]
    machine.answer("wget", "true")
    assert machine.found(cluster=fetching) == []


def test_f12_a_missing_folder_is_no_place_to_write_to(machine: Machine) -> None:
    shutil.rmtree(machine.root / "opt")
    assert machine.found() == [("error", "DirWritable--opt")]


FLAGS = 'KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.5 --register-with-taints=a=b:NoSchedule"\n'


def test_f36_an_address_that_changed_is_told_with_every_place_that_holds_it(machine: Machine) -> None:
    machine.answer("ip", "echo 2: eth0 inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0")
    machine.write("etc/kubernetes/manifests/etcd.yaml", "- --advertise-client-urls=https://192.0.2.5:2379\n")
    machine.write("etc/kubernetes/manifests/kube-scheduler.yaml", "- --bind-address=192.0.2.55\n")
    machine.write("etc/kubernetes/scheduler.conf", "server: https://192.0.2.5:6443\n")
    machine.write("etc/hosts", "192.0.2.5 api.example.com\n")
    machine.write("var/lib/kubelet/kubeadm-flags.env", FLAGS)
    machine.receipt(
        "/etc/kubernetes/manifests/etcd.yaml",
        "/etc/kubernetes/manifests/kube-scheduler.yaml",
        "/etc/kubernetes/scheduler.conf",
    )
    (problem,) = machine.examine().problems
    assert (problem.level, problem.check) == ("error", "NodeAddress")
    places = "/etc/hosts /etc/kubernetes/scheduler.conf /etc/kubernetes/manifests/etcd.yaml"
    assert problem.what == (
        "its address was 192.0.2.5 when it became a Node, and is 192.0.2.11 now; "
        f"{places} /var/lib/kubelet/kubeadm-flags.env hold the old one, and so do certificates"
    )


def test_f36_another_address_in_the_inventory_is_told_too(machine: Machine) -> None:
    machine.answer("ip", "echo 2: eth0 inet 192.0.2.5/24 scope global eth0; echo 2: eth0 inet 192.0.2.6/24 x")
    machine.write("var/lib/kubelet/kubeadm-flags.env", FLAGS)
    assert machine.examine(WORKER, workflow="join").problems == ()
    moved = WORKER.model_copy(update={"node_address": ip_address("192.0.2.6")})
    (problem,) = machine.examine(moved, workflow="join").problems
    assert (problem.level, problem.check) == ("warning", "NodeAddress")
    assert "was 192.0.2.5 when it became a Node, and is 192.0.2.6 now" in problem.what


def test_f35_the_name_of_an_endpoint_that_does_not_resolve_is_told_before_anything_is_changed(machine: Machine) -> None:
    machine.answer("getent", '[ "$2" != api.example.com ]')
    external = Cluster.model_validate({"endpoint": {"kind": "external", "name": "api.example.com"}})
    (problem,) = machine.examine(cluster=external).problems
    assert (problem.level, problem.check) == ("error", "EndpointName")
    assert "the name api.example.com, under which the cluster is to be found, cannot be resolved" in problem.what


def test_f16_cgroup_v1_is_an_error_unless_the_kubelet_is_told_to_bear_it(machine: Machine) -> None:
    machine.remove("sys/fs/cgroup/cgroup.controllers")
    rows = "".join(
        f"{name}\t1\t1\t1\n" for name in ["cpuset", "cpu", "cpuacct", "memory", "devices", "freezer", "pids"]
    )
    machine.write("proc/cgroups", rows)
    assert machine.found() == [("error", "CgroupV1")]
    bearing = Cluster(kubelet=Kubelet(config={"failCgroupV1": False}))
    assert machine.found(cluster=bearing) == [("warning", "CgroupV1")]


def test_f15_swap_is_fine_where_the_kubelet_may_use_it(machine: Machine) -> None:
    machine.write("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n")
    assert machine.found(cluster=Cluster(kubelet=Kubelet(config={"failSwapOn": False}))) == []


def test_a_worker_needs_neither_two_cpus_nor_the_ports_of_a_control_plane(machine: Machine) -> None:
    machine.answer("nproc", "echo 1")
    machine.listen(6443, 77, "nginx")
    machine.listen(2379, 78, "etcd")
    assert machine.found(WORKER, workflow="join") == []


def test_what_runs_of_our_own_cluster_is_no_problem(machine: Machine) -> None:
    manifests = [f"/etc/kubernetes/manifests/{name}.yaml" for name in ("kube-apiserver", "kube-scheduler", "etcd")]
    machine.receipt(*manifests, "/etc/systemd/system/kubelet.service", "/etc/systemd/system/containerd.service")
    for path in manifests:
        machine.write(path, "x")
    machine.write("var/lib/etcd/member/x", "x")
    machine.listen(6443, 71, "kube-apiserver")
    machine.listen(2379, 72, "etcd")
    machine.listen(10250, 73, "kubelet")
    machine.listen(10256, 74, "kube-proxy")
    machine.write("etc/kubernetes/kubelet.conf", "x")
    machine.write("var/lib/kubelet/config.yaml", "x")
    machine.write("etc/cni/net.d/10-flannel.conflist", "x")
    machine.write("proc/75/cgroup", "0::/kubepods.slice/x\n")
    machine.answer("systemctl", "case $3 in kubelet | containerd) ;; *) exit 3 ;; esac")
    assert machine.found() == []


def test_the_port_of_a_workers_proxy_is_free_or_its_own(machine: Machine) -> None:
    machine.listen(6443, 77, "haproxy")
    assert machine.examine(WORKER, workflow="join").problems == ()
    (problem,) = machine.examine(WORKER, workflow="join", proxied=True).problems
    assert problem.what == "TCP port 6443 is in use by haproxy (pid 77)"
    machine.receipt("/etc/kubernetes/manifests/kubestrap-proxy.yaml")
    assert machine.examine(WORKER, workflow="join", proxied=True).problems == ()


def test_a_control_planes_ports_behind_a_virtual_address_are_free_or_its_own_proxys(machine: Machine) -> None:
    virtual = Cluster.model_validate({"endpoint": {"kind": "vip", "address": "192.0.2.100"}})
    machine.listen(8443, 77, "haproxy")
    machine.listen(8404, 77, "haproxy", address="0100007F")
    assert machine.found() == []
    assert machine.found(WORKER, virtual, "join") == []
    assert machine.found(cluster=virtual) == [("error", "Port-8443"), ("error", "Port-8404")]
    machine.receipt("/etc/kubernetes/manifests/kubestrap-proxy.yaml")
    assert machine.found(cluster=virtual) == []


def test_f12_a_file_system_that_is_mounted_read_only_is_no_place_to_write_to(machine: Machine) -> None:
    machine.write(
        "proc/mounts",
        "overlay / overlay rw 0 0\nx /opt/kept ext4 ro 0 0\nx /optional ext4 ro 0 0\nx /usr ext4 rw,relatime 0 0\n"
        "x /usr/local ext4 ro,relatime 0 0\nx /var/lib/etcd ext4 ro 0 0\n",
    )
    (machine.root / "var/lib/etcd").mkdir()
    assert machine.found() == [("error", "DirWritable--usr-local"), ("error", "DirWritable--var-lib-etcd")]
    assert machine.found(WORKER, workflow="join") == [("error", "DirWritable--usr-local")]


def test_f12_file_systems_that_count_no_inodes_are_none_without_them(machine: Machine) -> None:
    machine.answer("stat", "echo 0 0")
    assert machine.found() == []
    machine.answer("stat", "exit 1")
    assert machine.found() == []


def test_f25_a_slow_disk_is_told_with_its_time_unless_etcd_runs_on_it_already(machine: Machine) -> None:
    machine.write_slowly()
    (problem,) = machine.examine().problems
    assert int(problem.what.split(" ms")[0].split()[-1]) >= 80
    assert "controlPlaneComponentHealthCheck" in problem.fix
    assert list(machine.root.glob("var/lib/.kubestrap*")) == []
    machine.receipt("/etc/kubernetes/manifests/etcd.yaml")
    assert machine.found() == []


def test_f25_a_disk_that_cannot_be_measured_is_unchecked(machine: Machine) -> None:
    machine.write_slowly("exit 1")
    assert machine.found() == [("unchecked", "EtcdDisk")]


def test_f25_one_slow_write_among_many_is_chance() -> None:
    assert list(preflight.disk("m1", [0.01] * 18 + [0.3])) == []
    assert len(list(preflight.disk("m1", [0.01] * 17 + [0.06, 0.3]))) == 1


def test_routes_of_a_node_to_pods_are_the_clusters_own(machine: Machine) -> None:
    machine.write("proc/net/route", ROUTES.format("0002F40A", "00FFFFFF"))
    assert machine.found() == [("error", "Routes")]
    machine.receipt("/etc/systemd/system/kubelet.service")
    assert machine.found() == []


def test_ipv6_routes_are_compared_too(machine: Machine) -> None:
    route = "fd00000000000000000000000000{:04x} {} " + "0" * 32 + " 00 " + "0" * 32 + " 00000400 0 0 1 tun0\n"
    machine.write("proc/net/ipv6_route", route.format(0, "00").replace("fd00", "0000") + route.format(0, "40"))
    machine.write("proc/sys/net/ipv6/conf/default/forwarding", "1\n")
    networks = {"podSubnet": "fd00:0:0:0::/56", "serviceSubnet": "fd01::/112"}
    assert machine.found(cluster=Cluster.model_validate({"networking": networks})) == [("error", "Routes")]


def test_f17_the_kernels_own_vxlan_holds_the_overlays_port_as_it_should(machine: Machine) -> None:
    row = "  0: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 50471 2 0 0\n"
    machine.write("proc/net/udp", row)
    assert machine.found() == []
    assert machine.examine().seen.udp == {8472}


def test_who_listens_to_himself_alone_is_no_listener_for_others(machine: Machine) -> None:
    machine.listen(7001, 5, "x", address="0100007F")
    machine.listen(7002, 5, "x")
    machine.write("proc/net/tcp6", f"  0: {'0' * 24}01000000:1B5B {'0' * 32}:0000 0A 0:0 00:0 0 0 0 9 1\n")
    assert machine.examine().seen.tcp == {7002}


def test_f18_a_ca_alone_is_the_new_clusters_and_with_others_files_it_is_a_leftover(machine: Machine) -> None:
    machine.write("etc/kubernetes/pki/ca.crt", "x")
    assert machine.found() == []
    machine.write("etc/kubernetes/manifests/foreign.yaml", "x")
    assert machine.examine().leftovers == {
        "FileAvailable--etc-kubernetes-manifests-foreign.yaml": "/etc/kubernetes/manifests/foreign.yaml",
        "DirAvailable--etc-kubernetes-pki": "/etc/kubernetes/pki",
    }


def test_f18_files_in_the_kubelets_folder_that_no_kubelet_wrote_are_in_nobodys_way(machine: Machine) -> None:
    machine.write("var/lib/kubelet/theirs", "x")
    assert machine.found() == []


def test_f18_cni_configuration_is_the_users_own_where_he_brings_the_network(machine: Machine) -> None:
    machine.write("etc/cni/net.d/05-cilium.conflist", "x")
    assert machine.found(cluster=Cluster.model_validate({"addons": {"cni": "none"}})) == []


def test_f18_a_manifest_of_others_is_no_less_one_on_a_worker(machine: Machine) -> None:
    machine.write("etc/kubernetes/manifests/foreign.yaml", "x")
    found = machine.found(WORKER, workflow="join")
    assert found == [("error", "FileAvailable--etc-kubernetes-manifests-foreign.yaml")]


def test_f17_the_holder_of_a_port_is_named(machine: Machine) -> None:
    machine.listen(6443, 4711, "nginx")
    (problem,) = machine.examine().problems
    assert "nginx (pid 4711)" in problem.what


def test_a_port_held_by_nobody_in_sight_is_taken_all_the_same(machine: Machine) -> None:
    machine.listen(6443, 77, "nginx")
    shutil.rmtree(machine.root / "proc/77")
    (problem,) = machine.examine().problems
    assert "a process out of sight" in problem.what


def test_a_joined_worker_may_join_again(machine: Machine) -> None:
    machine.receipt(
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/kubernetes/pki/ca.crt",
        "/etc/systemd/system/kubelet.service",
        "/etc/systemd/system/containerd.service",
    )
    machine.write("var/lib/kubelet/config.yaml", "x")
    machine.write("etc/kubernetes/kubelet.conf", "x")
    machine.write("etc/kubernetes/pki/ca.crt", "x")
    assert machine.found(WORKER, workflow="join") == []


def test_what_a_machine_holds_of_the_cluster_that_was_adopted_is_no_leftover(machine: Machine) -> None:
    for path in ("kubernetes/manifests/kube-apiserver.yaml", "kubernetes/admin.conf", "kubernetes/pki/ca.crt"):
        machine.write(f"etc/{path}", "x")
    machine.write("var/lib/kubelet/config.yaml", "x")
    machine.write("var/lib/etcd/member", "x")
    machine.write("proc/9/cgroup", "0::/kubepods/x\n")
    machine.listen(6443, 8, "kube-apiserver")
    assert len(machine.examine().problems) > 5
    assert machine.examine(adopted=True).problems == ()
    machine.listen(10257, 7, "nginx")
    assert [problem.check for problem in machine.examine(adopted=True).problems] == ["Port-10257"]


def test_f18_a_worker_of_another_cluster_is_refused(machine: Machine) -> None:
    machine.write("etc/kubernetes/kubelet.conf", "x")
    assert machine.found(WORKER, workflow="join") == [("error", "FileAvailable--etc-kubernetes-kubelet.conf")]


def test_proxies_are_told_by_name_and_never_with_their_passwords(machine: Machine) -> None:
    machine.answer("systemctl", '[ "$1" = show-environment ] && echo HTTPS_PROXY=http://me:hunter2@192.0.2.9')
    problems = machine.examine().problems
    assert {problem.check for problem in problems} == {"HTTPProxy"}
    assert "hunter2" not in str(problems)


def test_it_runs_on_a_real_machine_and_sees_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster = Cluster.model_validate({"endpoint": {"kind": "local-proxy", "port": port}})
        found = preflight.examine(
            LocalHost("m1"), CONTROL_PLANE, cluster, workflow="init", platform="linux/amd64"
        ).problems
    (problem,) = [problem for problem in found if problem.check == f"Port-{port}"]
    assert f"(pid {os.getpid()})" in problem.what
    assert "Clock" not in {problem.check for problem in found}


def test_a_machine_that_cannot_be_asked_fails_and_all_others_are_asked() -> None:
    class Broken(LocalHost):
        def run(self, command: str, **rest: object) -> object:  # type: ignore[override]
            raise StepFailed(self.name, "preflight", "look at the machine", "gone")

    pairs = [(Broken("m1"), CONTROL_PLANE), (LocalHost("w1"), WORKER)]
    with pytest.raises(HostsFailed) as caught:
        preflight.check(pairs, Cluster(), workflow="init", platform="linux/amd64")  # type: ignore[arg-type]
    assert list(caught.value.failures) == ["m1"]


def test_an_answer_that_is_none_is_an_error() -> None:
    with pytest.raises(StepFailed, match="sh: not found"):
        preflight.read("m1", "sh: not found\n", Cluster(), sent=0, received=1)


@pytest.mark.parametrize(
    ("theirs", "level"),
    [(100, None), (101.5, None), (103, "warning"), (98.5, None), (96, "warning"), (140, "error"), (60, "error")],
)
def test_f13_a_clock_is_judged_by_what_is_certain(theirs: float, level: str | None) -> None:
    assert [problem.level for problem in preflight.clock("m1", theirs, 100, 100.5)] == ([level] if level else [])


def test_f13_a_slow_round_trip_is_no_skew() -> None:
    assert preflight.clock("m1", 120, 100, 140) == []


def test_f14_two_hosts_that_are_one_machine_are_told_of_each_other() -> None:
    same = {"machine-id": "0123456789abcdef0123456789abcdef"}
    found = preflight.across([Examination("a", (), same), Examination("b", (), same), Examination("c")])
    assert [(problem.host, problem.check) for problem in found] == [("a", "DistinctHosts"), ("b", "DistinctHosts")]
    assert "that of b" in found[0].what


@pytest.mark.parametrize(
    "value",
    ["", " ", "unknown", "uninitialized", "Not Settable", "0" * 32, "00000000-0000-0000-0000-000000000000", "F" * 32],
)
def test_f14_what_is_unknown_never_equals_what_is_unknown(value: str) -> None:
    assert preflight.across([Examination(name, (), {"product_uuid": value}) for name in ("a", "b")]) == []


SWAP = Problem("m1", "Swap", "error", "swap is on", "turn it off")
PORT = Problem("m2", "Port-6443", "error", "TCP port 6443 is in use by nginx (pid 7)", "stop it")
HINT = Problem("m2", "Hostname", "warning", "no such name", "add it")


def test_all_problems_of_all_hosts_are_told_at_once() -> None:
    with pytest.raises(PreflightFailed) as caught:
        preflight.judge([SWAP, HINT, PORT])
    assert caught.value.exit_code == 4
    assert caught.value.problems == (SWAP, PORT)
    assert str(caught.value) == (
        "preflight found 2 problems on 2 hosts:\n"
        "  m1: Swap: swap is on; turn it off\n"
        "  m2: Port-6443: TCP port 6443 is in use by nginx (pid 7); stop it\n"
        "No machine was changed. --ignore-preflight-errors NAME,... goes on in spite of the checks it names."
    )


def test_what_is_unchecked_is_no_error_and_stays_so_when_it_is_ignored() -> None:
    unchecked = Problem("m1", "PathMTU", "unchecked", "no ip", "install it")
    assert preflight.judge([unchecked]) == [unchecked]
    assert preflight.judge([unchecked], ["all"]) == [unchecked]


@pytest.mark.parametrize("ignored", [["swap", "Port-6443"], ["all"]])
def test_ignored_errors_become_warnings(ignored: list[str]) -> None:
    assert [problem.level for problem in preflight.judge([SWAP, HINT, PORT], ignored)] == ["warning"] * 3


def test_a_name_that_no_check_has_is_a_warning() -> None:
    names = ["Swop", "Swap", "ImagePull", "Port-1", "all", "FileExisting-tc"]
    assert [problem.what for problem in preflight.judge([], names)] == ["no check is called Swop"]


def test_every_check_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs/preflight.md").read_text()
    undocumented = [name for name in (*preflight.NAMES, *preflight.FAMILIES) if f"`{name}" not in text]
    assert undocumented == []


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"etc/cloud/cloud.cfg": "users: []\nmanage_etc_hosts: true\n"}, "/etc/cloud/cloud.cfg:2"),
        (
            {"etc/cloud/cloud.cfg.d/90_x.cfg": "manage_etc_hosts: 'template'  # ours\n"},
            "/etc/cloud/cloud.cfg.d/90_x.cfg:1",
        ),
        (
            {
                "etc/cloud/cloud.cfg": "manage_etc_hosts: localhost\n",
                "var/lib/cloud/instance/cloud-config.txt": "#cloud-config\nmanage_etc_hosts: True\n",
            },
            "/var/lib/cloud/instance/cloud-config.txt:2",
        ),
        (
            {"etc/cloud/cloud.cfg": "manage_etc_hosts: true\n", "etc/cloud/cloud.cfg.d/a.cfg": "manage_etc_hosts: off"},
            "",
        ),
        ({"etc/cloud/cloud.cfg": "#manage_etc_hosts: true\nmanage_etc_hosts: localhost\n"}, ""),
        ({"etc/cloud/cloud.cfg": "manage_etc_hosts: true\n", "etc/cloud/cloud-init.disabled": ""}, ""),
    ],
)
def test_a_cloud_init_that_would_write_etc_hosts_anew_is_told_with_its_place(
    machine: Machine, files: dict[str, str], place: str
) -> None:
    for path, text in files.items():
        machine.write(path, text)
    assert machine.examine(WORKER).problems == ()  # there is no cloud-init to read it
    machine.answer("cloud-init", "")
    told = machine.examine(WORKER).problems
    assert [(problem.level, problem.check) for problem in told] == [("warning", "CloudInit")] * bool(place)
    for problem in told:
        assert "and api.kubernetes.cluster.local would be gone from it" in problem.what
        assert problem.what.endswith(f" in {place}")
    external = Cluster.model_validate({"endpoint": {"kind": "external", "name": "api.example.com"}})
    assert machine.examine(WORKER, cluster=external).problems == ()
