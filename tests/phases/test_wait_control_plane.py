from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import paths
from bootstrap.phases import kubelet, wait_control_plane
from bootstrap.phases.runtime import CTR
from bootstrap.steps import Wait
from tests.builders import node, site

PORTS = (2381, 6443, 10257, 10259)
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def waits(**cluster: object) -> list[Wait]:
    described = site(cluster=cluster)
    return [step for step in wait_control_plane.steps(described, described.nodes[0]) if isinstance(step, Wait)]


def test_the_kubelet_is_waited_for_before_the_components() -> None:
    assert [wait.what for wait in waits()] == [
        "the kubelet to answer",
        "the control plane to answer and to run steadily",
    ]


def test_a_kubelet_without_a_health_port_is_not_asked() -> None:
    assert len(waits(kubelet={"config": {"healthzPort": 0}})) == 1


def test_every_component_is_asked_where_kubeadm_asks_it() -> None:
    until = waits()[-1].until
    asked = [
        "--server http://127.0.0.1:2381 --request-timeout 5s get --raw /readyz",
        "--server https://192.0.2.10:6443 --request-timeout 5s get --raw /readyz",
        "--server https://127.0.0.1:10257 --request-timeout 5s get --raw /healthz",
        "--server https://127.0.0.1:10259 --request-timeout 5s get --raw /livez",
    ]
    assert [until.rindex(each) for each in asked] == sorted(until.rindex(each) for each in asked)


def test_only_on_the_machine_itself_is_a_certificate_not_checked() -> None:
    lines = [line for line in waits()[-1].until.splitlines() if "kubectl" in line]
    unchecked = [line for line in lines if "--insecure-skip-tls-verify" in line]
    assert len(unchecked) == 2
    assert all("https://127.0.0.1:" in line for line in unchecked)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Put a kubectl and a ctr into a folder: all components answer, and `ids` and `tasks` are what runs."""
    (tmp_path / "kubectl").write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$*" in *"$(cat "${0%/*}/ill" 2>/dev/null || echo none)"*) '
        "echo 'not ok'; exit 1;; esac\necho ok\n"
    )
    (tmp_path / "ctr").write_text(
        '#!/bin/sh\ncase "$*" in *"containers ls"*) cat "${0%/*}/ids" ;; *"tasks ls"*) cat "${0%/*}/tasks" ;; esac\n'
    )
    for program in ("kubectl", "ctr"):
        (tmp_path / program).chmod(0o755)
    (tmp_path / "tcp").write_text("".join(f" 0: 0100007F:{port:04X} 00000000:0000 0A 0\n" for port in PORTS))
    (tmp_path / "ids").write_text("".join(f"id-{name}\nold-{name}\n" for name in NAMES))
    tasks(tmp_path, dict.fromkeys(NAMES, 1))
    return tmp_path


def aged(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def runs(machine: Path, name: str, container: str, *, ended: int = 0, seconds: float = 0) -> None:
    """Let containerd know a container of component `name`, which started or ended `seconds` ago."""
    status = machine / "cri" / container / "status"
    status.parent.mkdir(parents=True)
    status.write_text(f'{{"CreatedAt":1,"StartedAt":2,"FinishedAt":{ended},"ExitCode":0,"Pid":1}}')
    aged(status, seconds)
    (machine / "containers").mkdir(exist_ok=True)
    log = machine / "containers" / f"{name}-cp1_kube-system_{name}-{container}.log"
    log.symlink_to(machine / "pods" / container / "0.log")


def changed(machine: Path, name: str, *, seconds: float) -> None:
    """Let the manifest of component `name` have been changed `seconds` ago."""
    manifest = machine / "manifests" / f"{name}.yaml"
    manifest.parent.mkdir(exist_ok=True)
    manifest.touch()
    aged(manifest, seconds)


def tasks(machine: Path, pids: dict[str, int]) -> None:
    lines = [f"id-{name}    {pid}    RUNNING" for name, pid in pids.items()]
    (machine / "tasks").write_text(
        "\n".join(["TASK PID STATUS", "id-other 1 RUNNING", "old-etcd 0 STOPPED", *lines, ""])
    )


def ask(machine: Path, *, seconds: int = 3) -> subprocess.CompletedProcess[str]:
    ours = f" < {wait_control_plane.STEADY_SECONDS * 100})"
    assert ours in waits()[-1].until
    script = waits()[-1].until.replace(ours, f" < {seconds * 100})").replace(CTR, str(machine / "ctr"))
    script = script.replace(f"{paths.BINARIES}/kubectl", str(machine / "kubectl"))
    script = script.replace("/proc/net/tcp /proc/net/tcp6", str(machine / "tcp"))
    script = script.replace(paths.MANIFESTS, str(machine / "manifests")).replace("logs=/var/log", f"logs={machine}")
    script = script.replace("cri=/var/lib/containerd/io.containerd.grpc.v1.cri/containers", f"cri={machine}/cri")
    (machine / "until").write_text(script)
    return subprocess.run(["sh", str(machine / "until")], capture_output=True, text=True, check=False)


def looked_just_now(machine: Path) -> None:
    """Have the machine keep in mind that what is at fault has been looked for."""
    (machine / "until.seen.looked").write_text(Path("/proc/uptime").read_text().partition(".")[0])


def test_a_control_plane_that_has_run_for_long_is_steady_at_once(machine: Path) -> None:
    done = ask(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def newcomer() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_a_component_that_has_just_been_started_is_not_steady(machine: Path, newcomer: int) -> None:
    tasks(machine, {**dict.fromkeys(NAMES, 1), "kube-scheduler": newcomer})
    done = ask(machine, seconds=600)
    assert done.returncode == 1
    assert "a component was started less than 3 seconds ago" in done.stdout


def test_a_component_that_ended_meanwhile_is_not_steady(machine: Path) -> None:
    tasks(machine, {**dict.fromkeys(NAMES, 1), "etcd": 2**22 + 1})
    done = ask(machine)
    assert done.returncode == 1
    assert "a component was started less than" in done.stdout


def test_a_component_that_does_not_run_is_missed(machine: Path) -> None:
    tasks(machine, dict.fromkeys(NAMES[1:], 1))
    done = ask(machine)
    assert (done.returncode, done.stdout.strip()) == (1, "3 of 4 components run")


def test_a_component_that_still_runs_from_its_former_manifest_is_not_yet_what_is_waited_for(machine: Path) -> None:
    runs(machine, "kube-scheduler", "former", seconds=60)
    runs(machine, "kube-scheduler", "ended", ended=3)
    changed(machine, "kube-scheduler", seconds=1)
    done = ask(machine)
    assert done.returncode == 1
    assert done.stdout.startswith("kube-scheduler does not run from its manifest of ")
    runs(machine, "kube-scheduler", "new")
    looked_just_now(machine)
    assert ask(machine).stdout == "a component was started less than 3 seconds ago\n"
    for container in ("ended", "new"):
        aged(machine / "cri" / container / "status", wait_control_plane.STEADY_SECONDS)
    changed(machine, "kube-scheduler", seconds=wait_control_plane.STEADY_SECONDS + 1)
    done = ask(machine)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("seconds", [kubelet.NOTICED_SECONDS + 1, -60])
def test_a_pod_older_than_its_manifest_is_taken_as_it_is_where_the_kubelet_has_had_time(
    machine: Path, seconds: float
) -> None:
    runs(machine, "kube-scheduler", "former", seconds=3600)
    changed(machine, "kube-scheduler", seconds=seconds)
    done = ask(machine)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("port", "name"), list(zip(PORTS, NAMES, strict=True)))
def test_a_component_whose_port_nobody_holds_is_named_and_not_asked(machine: Path, port: int, name: str) -> None:
    listening = (machine / "tcp").read_text().splitlines()
    (machine / "tcp").write_text("\n".join(line for line in listening if f":{port:04X} " not in line))
    done = ask(machine)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{name} does not answer /")
    assert f"nothing listens on port {port}" in done.stdout


def test_nothing_is_asked_while_nobody_holds_a_port_but_now_and_then(machine: Path) -> None:
    (machine / "tcp").write_text((machine / "tcp").read_text().splitlines()[0])
    (machine / "ill").write_text(f":{PORTS[0]} ")
    looked_just_now(machine)
    assert ask(machine).stdout == "kube-apiserver does not answer /readyz: nothing listens on port 6443\n"
    (machine / "until.seen.looked").unlink()
    assert ask(machine).stdout == "etcd does not answer /readyz: not ok\n"


@pytest.mark.parametrize(("port", "name"), list(zip(PORTS, NAMES, strict=True)))
def test_a_component_that_does_not_answer_is_named(machine: Path, port: int, name: str) -> None:
    (machine / "ill").write_text(f":{port} ")
    done = ask(machine)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{name} does not answer /")
    assert "not ok" in done.stdout


def test_evidence_is_gathered_for_both_waits_and_read_as_such() -> None:
    assert all(wait.evidence and "evidence" in wait.explain for wait in waits())


def test_the_limits_are_the_inventorys() -> None:
    timeouts = {"kubeletHealthCheck": "10s", "controlPlaneComponentHealthCheck": "20s"}
    assert [wait.seconds for wait in waits(timeouts=timeouts)] == [10, 20]


def test_both_roles_are_waited_for_alike() -> None:
    both = node("both", "control-plane", "worker")
    assert len(list(wait_control_plane.steps(site(both), both))) == 3
