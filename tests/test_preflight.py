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
]
ANSWERS = {
    "id": "echo 0",
    "uname": "case $1 in -m) echo x86_64 ;; *) echo 6.1.0-30-amd64 ;; esac",
    "nproc": "echo 4",
    "df": "echo head; echo /dev/vda1 50000000 10000000 40000000 20% /",
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

    def listen(self, port: int, pid: int, program: str) -> None:
        inode = 1000 + port
        row = f"  0: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
        with (self.root / "proc/net/tcp").open("a") as table:
            table.write(row)
        self.write(f"proc/{pid}/comm", f"{program}\n")
        (self.root / f"proc/{pid}/fd").mkdir(exist_ok=True)
        (self.root / f"proc/{pid}/fd/{port}").symlink_to(f"socket:[{inode}]")

    def receipt(self, *files: str) -> None:
        self.write(paths.RECEIPT, "".join(f"file\t{path}\n" for path in files))

    def examine(
        self, node: Host = CONTROL_PLANE, cluster: Cluster | None = None, workflow: Workflow = "init"
    ) -> Examination:
        script = preflight.script(
            node, cluster or Cluster(), workflow=workflow, platform="linux/amd64", root=str(self.root)
        )
        sh = f"PATH={shlex.quote(str(self.programs))} sh -s"
        result = LocalHost(node.name).run(sh, stdin=script, seconds=120)
        assert result.stderr == b""
        return preflight.read(node.name, result.stdout.decode(), sent=0, received=1e12)

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


def test_a_missing_folder_is_no_place_to_write_to(machine: Machine) -> None:
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
    machine.receipt("/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/manifests/kube-scheduler.yaml")
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


def test_cgroup_v1_is_an_error_unless_the_kubelet_is_told_to_bear_it(machine: Machine) -> None:
    machine.remove("sys/fs/cgroup/cgroup.controllers")
    rows = "".join(
        f"{name}\t1\t1\t1\n" for name in ["cpuset", "cpu", "cpuacct", "memory", "devices", "freezer", "pids"]
    )
    machine.write("proc/cgroups", rows)
    assert machine.found() == [("error", "CgroupV1")]
    bearing = Cluster(kubelet=Kubelet(config={"failCgroupV1": False}))
    assert machine.found(cluster=bearing) == [("warning", "CgroupV1")]


def test_swap_is_fine_where_the_kubelet_may_use_it(machine: Machine) -> None:
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
    machine.answer("systemctl", "case $3 in kubelet | containerd) ;; *) exit 3 ;; esac")
    assert machine.found() == []


def test_the_holder_of_a_port_is_named(machine: Machine) -> None:
    machine.listen(6443, 4711, "nginx")
    (problem,) = machine.examine().problems
    assert "nginx (pid 4711)" in problem.what


def test_a_port_held_by_nobody_in_sight_is_taken_all_the_same(machine: Machine) -> None:
    machine.listen(6443, 77, "nginx")
    shutil.rmtree(machine.root / "proc/77")
    (problem,) = machine.examine().problems
    assert "a process out of sight" in problem.what


def test_a_joined_worker_may_join_again(machine: Machine) -> None:
    machine.receipt("/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.crt")
    machine.write("etc/kubernetes/kubelet.conf", "x")
    machine.write("etc/kubernetes/pki/ca.crt", "x")
    assert machine.found(WORKER, workflow="join") == []


def test_a_worker_of_another_cluster_is_refused(machine: Machine) -> None:
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
        preflight.read("m1", "sh: not found\n", sent=0, received=1)


@pytest.mark.parametrize(
    ("theirs", "level"),
    [(100, None), (101.5, None), (103, "warning"), (98.5, None), (96, "warning"), (140, "error"), (60, "error")],
)
def test_a_clock_is_judged_by_what_is_certain(theirs: float, level: str | None) -> None:
    assert [problem.level for problem in preflight.clock("m1", theirs, 100, 100.5)] == ([level] if level else [])


def test_a_slow_round_trip_is_no_skew() -> None:
    assert preflight.clock("m1", 120, 100, 140) == []


def test_two_hosts_that_are_one_machine_are_told_of_each_other() -> None:
    same = {"machine-id": "0123456789abcdef0123456789abcdef"}
    found = preflight.across([Examination("a", (), same), Examination("b", (), same), Examination("c")])
    assert [(problem.host, problem.check) for problem in found] == [("a", "DistinctHosts"), ("b", "DistinctHosts")]
    assert "that of b" in found[0].what


@pytest.mark.parametrize(
    "value",
    ["", " ", "unknown", "uninitialized", "Not Settable", "0" * 32, "00000000-0000-0000-0000-000000000000", "F" * 32],
)
def test_what_is_unknown_never_equals_what_is_unknown(value: str) -> None:
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
