"""Preparation: the scripts run for real, over files that stand for a machine's."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootstrap.phases import prepare
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import Command, File, Step
from tests.builders import node, site


def command(steps: Sequence[Step]) -> Command:
    (found,) = [step for step in steps if isinstance(step, Command)]
    return found


def sh(script: str, *, folder: Path, **replaced: Path) -> subprocess.CompletedProcess[str]:
    """Run `script` with other paths in place of its own, and with the programs in `folder` before the machine's."""
    for name, path in replaced.items():
        script = script.replace(f"/{name.replace('_', '/')}", str(path))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)


def hosts_command(described: Site, host: Node) -> Command:
    return command(list(prepare.hosts_steps(described, host)))


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n# mine\n192.0.2.99 printer")
    file.chmod(0o640)
    return file


def test_the_endpoint_is_added_to_etc_hosts_and_the_rest_stays(tmp_path: Path, hosts: Path) -> None:
    step = hosts_command(site(), site().nodes[0])
    assert sh(step.unless, folder=tmp_path, etc_hosts=hosts).returncode != 0
    assert sh(step.run, folder=tmp_path, etc_hosts=hosts).returncode == 0
    assert hosts.read_text() == (
        "127.0.0.1 localhost\n# mine\n192.0.2.99 printer\n"
        "# BEGIN kubestrap\n192.0.2.10 api.kubernetes.cluster.local\n# END kubestrap\n"
    )
    assert hosts.stat().st_mode & 0o777 == 0o640
    assert sh(step.unless, folder=tmp_path, etc_hosts=hosts).returncode == 0
    assert list(tmp_path.iterdir()) == [hosts]


def test_another_address_takes_the_place_of_the_old_one(tmp_path: Path, hosts: Path) -> None:
    sh(hosts_command(site(), site().nodes[0]).run, folder=tmp_path, etc_hosts=hosts)
    moved = node(address="192.0.2.20")
    step = hosts_command(site(moved), moved)
    assert sh(step.unless, folder=tmp_path, etc_hosts=hosts).returncode != 0
    assert sh(step.run, folder=tmp_path, etc_hosts=hosts).returncode == 0
    assert hosts.read_text().count("BEGIN kubestrap") == 1
    assert "192.0.2.20 api.kubernetes.cluster.local" in hosts.read_text()
    assert "192.0.2.10" not in hosts.read_text()


def test_a_linked_etc_hosts_stays_a_link(tmp_path: Path, hosts: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(hosts)
    assert sh(hosts_command(site(), site().nodes[0]).run, folder=tmp_path, etc_hosts=link).returncode == 0
    assert link.is_symlink()
    assert "BEGIN kubestrap" in hosts.read_text()


def test_a_worker_finds_the_endpoint_on_the_control_plane_host() -> None:
    assert "192.0.2.10 api.kubernetes.cluster.local" in hosts_command(site(), site().nodes[1]).run


def test_a_kube_proxy_that_knows_another_address_is_started_anew(tmp_path: Path) -> None:
    joined = dataclasses.replace(site().nodes[1], facts=Facts(bootstrapped=True))
    _, step = [each for each in prepare.hosts_steps(site(), joined) if isinstance(each, Command)]
    seen = tmp_path / "etc/hosts"
    seen.parent.mkdir()
    seen.write_text("192.0.2.10 api.kubernetes.cluster.local\n")
    # It has the name, and a root folder of its own.
    program = tmp_path / "kube-proxy"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    scripts = [
        text.replace('"${comm%comm}root/etc/hosts"', str(seen)).replace("/proc/[0-9]*/", f"/proc/{process.pid}/")
        for text in (step.run, step.unless)
    ]
    try:
        assert sh(scripts[1], folder=tmp_path).returncode == 0
        assert sh(scripts[0], folder=tmp_path).returncode == 0
        assert process.poll() is None
        seen.write_text("127.0.0.1 api.kubernetes.cluster.local\n")
        assert sh(scripts[1], folder=tmp_path).returncode != 0
        assert sh(scripts[0], folder=tmp_path).returncode == 0
        assert process.wait(timeout=60) < 0
        assert sh(scripts[1], folder=tmp_path).returncode == 0
    finally:
        process.kill()
        process.wait()


def test_an_external_endpoint_is_not_written_to_etc_hosts() -> None:
    described = site(cluster={"endpoint": {"kind": "external", "name": "api.example.com"}})
    assert not list(prepare.hosts_steps(described, described.nodes[0]))


def test_a_host_that_joins_another_cluster_knows_it_by_the_name_that_was_discovered() -> None:
    alone = node("worker", "worker")
    joined = site(cluster={"name": "other"}).joining
    described = dataclasses.replace(site(alone), joining=joined, endpoint_address="192.0.2.50")
    assert "192.0.2.50 api.other.cluster.local" in hosts_command(described, alone).run


def test_a_host_that_joins_from_outside_gets_no_line_in_etc_hosts() -> None:
    alone = node("worker", "worker")
    assert not list(prepare.hosts_steps(site(alone), alone))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Put programs that tell of themselves into a folder: swapoff, and a systemctl that knows one swap unit."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    (tmp_path / "fstab").write_text(
        "# /dev/old none swap sw 0 0\nUUID=1 / ext4 defaults 0 1\n"
        "UUID=2 none\tswap sw 0 0\n/swap.img none swap sw 0 0\n"
    )
    (tmp_path / "fstab").chmod(0o644)
    (tmp_path / "unit").write_text("dev-zram0.swap generated -\n")
    (programs / "swapoff").write_text(f'#!/bin/sh\nsed -i 2,\\$d "{tmp_path}/swaps"\n')
    (programs / "systemctl").write_text(
        f'#!/bin/sh\ncase $1 in list-unit-files) cat "{tmp_path}/unit" ;; '
        f'mask) echo "$3 masked -" >"{tmp_path}/unit" ;; esac\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    return tmp_path


def swap(script: str, machine: Path) -> subprocess.CompletedProcess[str]:
    return sh(script, folder=machine / "bin", etc_fstab=machine / "fstab", proc_swaps=machine / "swaps")


def test_f15_swap_is_off_now_and_at_boot(machine: Path) -> None:
    step = command(list(prepare.swap_steps(site(), node())))
    assert swap(step.unless, machine).returncode != 0
    done = swap(step.run, machine)
    assert done.returncode == 0, done.stderr
    assert (machine / "fstab").read_text() == (
        "# /dev/old none swap sw 0 0\nUUID=1 / ext4 defaults 0 1\n"
        "# kubestrap: UUID=2 none\tswap sw 0 0\n# kubestrap: /swap.img none swap sw 0 0\n"
    )
    assert (machine / "unit").read_text() == "dev-zram0.swap masked -\n"
    assert swap(step.unless, machine).returncode == 0


def test_f15_swap_that_cannot_be_turned_off_is_named(machine: Path) -> None:
    (machine / "bin" / "swapoff").write_text("#!/bin/sh\n")
    done = swap(command(list(prepare.swap_steps(site(), node()))).run, machine)
    assert done.returncode != 0
    assert "still in use as swap: /dev/sda2" in done.stderr


def test_a_machine_without_swap_and_fstab_is_left_alone(machine: Path) -> None:
    (machine / "swaps").write_text("Filename Type Size Used Priority\n")
    (machine / "unit").write_text("")
    (machine / "fstab").unlink()
    assert swap(command(list(prepare.swap_steps(site(), node()))).unless, machine).returncode == 0


@pytest.mark.parametrize("where", ["cluster", "host"])
def test_swap_stays_where_the_kubelet_is_told_to_bear_it(where: str) -> None:
    kubelet = {"kubelet": {"config": {"failSwapOn": False}}}
    host = node(**(kubelet if where == "host" else {}))
    described = site(host, cluster=kubelet if where == "cluster" else {})
    assert not list(prepare.swap_steps(described, host))


def test_f17_sysctls_are_written_now_and_for_the_next_boot(tmp_path: Path) -> None:
    file, step = prepare.sysctls_steps(site(), node())
    assert isinstance(file, File)
    assert isinstance(step, Command)
    assert file.data == b"net.bridge.bridge-nf-call-iptables = 1\nnet.ipv4.ip_forward = 1\n"
    for folder in ("net/bridge", "net/ipv4"):
        (tmp_path / folder).mkdir(parents=True)
    forward = tmp_path / "net/ipv4/ip_forward"
    forward.write_text("0\n")
    (tmp_path / "net/bridge/bridge-nf-call-iptables").write_text("1\n")
    assert sh(step.unless, folder=tmp_path, proc_sys=tmp_path).returncode != 0
    assert sh(step.run, folder=tmp_path, proc_sys=tmp_path).returncode == 0
    assert forward.read_text() == "1\n"
    assert sh(step.unless, folder=tmp_path, proc_sys=tmp_path).returncode == 0


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "filesystems").write_text("nodev\tproc\n")
    (tmp_path / "modprobe").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "modprobe").chmod(0o755)
    return tmp_path


def modules(script: str, kernel: Path) -> subprocess.CompletedProcess[str]:
    bridge = kernel / "bridge"
    return sh(script, folder=kernel, proc_filesystems=kernel / "filesystems", proc_sys_net_bridge=bridge)


def test_modules_that_are_built_in_need_no_modprobe(kernel: Path) -> None:
    (kernel / "filesystems").write_text("nodev\tproc\nnodev\toverlay\n")
    (kernel / "bridge").mkdir()
    (kernel / "bridge/bridge-nf-call-iptables").write_text("0\n")
    assert modules(command(list(prepare.modules_steps(site(), node()))).unless, kernel).returncode == 0


def test_f17_a_kernel_that_cannot_load_the_modules_is_told_of(kernel: Path) -> None:
    done = modules(command(list(prepare.modules_steps(site(), node()))).run, kernel)
    assert done.returncode != 0
    assert "this kernel has not both of overlay and br_netfilter" in done.stderr


def test_modules_are_loaded_where_modprobe_can(kernel: Path) -> None:
    (kernel / "modprobe").write_text(
        f'#!/bin/sh\nmkdir -p "{kernel}/bridge"\n: >"{kernel}/bridge/bridge-nf-call-iptables"\n'
        f'echo "nodev\toverlay" >>"{kernel}/filesystems"\n'
    )
    step = command(list(prepare.modules_steps(site(), node())))
    assert modules(step.unless, kernel).returncode != 0
    assert modules(step.run, kernel).returncode == 0
