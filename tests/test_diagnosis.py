"""The sh on a machine that is a folder, and what is read out of its lines."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap import diagnosis

COMPONENTS = ("etcd", "kube-apiserver", "kube-scheduler")
BAD_FLAG = "Error: unknown flag: --nonsense"
REFUSED = 'E1126 15:25:00.1 1 run.go:72] "command failed" err="dial tcp 127.0.0.1:6443: connect: connection refused"'
BASELESS = 'F1126 15:25:00.1 1 run.go:72] "the sky fell"'


@dataclass(frozen=True)
class Machine:
    """A folder with what diagnosis.sh reads, and programs that answer as the tests want."""

    root: Path

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def kubelet(self, *, state: str = "active", sub: str = "running", restarts: int = 0) -> None:
        lines = [
            f"ActiveState={state}",
            f"SubState={sub}",
            f"NRestarts={restarts}",
            "ExecMainStatus=1",
            "ActiveEnterTimestamp=",
        ]
        self.program("systemctl", "\n".join(["case $1 in is-active) echo active; exit;; esac", "cat <<X", *lines, "X"]))

    def manifest(self, component: str) -> None:
        path = self.root / "manifests" / f"{component}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"    image: registry.example/{component}:1\n")
        os.utime(path, (1, 1))

    def container(
        self, component: str, attempt: int, *, status: int | None, log: str, age: float = 1, pod: str = "0123"
    ) -> None:
        """Have a container of `component`, which ended `age` seconds ago with `status`, or runs."""
        file = self.root / "log" / "pods" / f"kube-system_{component}-cp1_{pod}" / component / f"{attempt}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"2026-01-01T00:00:00Z stderr F {line}\n" for line in log.splitlines()))
        identifier = f"{component}{pod}{attempt}".replace("-", "")
        links = self.root / "log" / "containers"
        links.mkdir(exist_ok=True)
        (links / f"{component}-cp1_kube-system_{component}-{identifier}.log").symlink_to(file)
        ended = 0 if status is None else int((time.time() - age) * 1e9)
        folder = self.root / "cri" / identifier
        folder.mkdir(parents=True)
        (folder / "status").write_text(
            f'{{"Version":"v1","Pid":0,"CreatedAt":{1000 + attempt},"StartedAt":{1000 + attempt},"FinishedAt":{ended},'
            f'"ExitCode":{status or 0},"Reason":"","Message":""}}'
        )

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        for name, folder in (("logs", "log"), ("cri", "cri"), ("manifests", "manifests")):
            (line,) = (line for line in script.splitlines() if line.startswith(f"{name}="))
            script = script.replace(line, f"{name}={self.root / folder}")
        script = script.replace("/usr/local/bin/ctr", "ctr")
        path = self.root / "script"
        path.write_text(script)
        environment = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "LC_ALL": "C"}
        return subprocess.run(["sh", str(path)], capture_output=True, text=True, check=False, env=environment)

    def look(self, said: str = "something does not answer /livez: no") -> subprocess.CompletedProcess[str]:
        (self.root / "script.seen.looked").unlink(missing_ok=True)
        ran = self.run(diagnosis.until(f"echo '{said}'; exit 1", COMPONENTS))
        assert ran.stderr == ""
        assert ran.stdout.splitlines()[0] == said
        return ran

    def explained(self, said: str = "") -> str:
        ran = self.run(diagnosis.explain(COMPONENTS))
        assert ran.stderr == ""
        return diagnosis.explained(f"{said}\n{ran.stdout}")

    def watched_for(self, seconds: int) -> None:
        (self.root / "script.seen.since").write_text(f"{int(time.time()) - seconds}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.kubelet()
    made.program("journalctl", "true")
    made.program("ctr", "echo registry.example/etcd:1; echo registry.example/kube-apiserver:1; echo other")
    for component in COMPONENTS:
        made.manifest(component)
    return made


def test_a_wait_that_comes_true_looks_no_further(machine: Machine) -> None:
    ran = machine.run(diagnosis.until("echo well; true", COMPONENTS))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_wait_asks_oftener_than_it_looks(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=BAD_FLAG)
    (uptime, _, _) = Path("/proc/uptime").read_text().partition(".")
    for ago, status in ((0, 1), (60, 2)):
        (machine.root / "script.seen.looked").write_text(f"{int(uptime) - ago}\n")
        assert machine.run(diagnosis.until("echo no; exit 1", COMPONENTS)).returncode == status


def test_what_ended_twice_for_a_reason_that_does_not_pass_is_certain(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=BAD_FLAG)
    ran = machine.look()
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (2, "guilty\tkube-scheduler")


def test_what_ended_once_may_come_right(machine: Machine) -> None:
    machine.container("kube-scheduler", 0, status=1, log=BAD_FLAG)
    assert machine.look().returncode == 1


def test_what_was_started_again_may_come_right(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=BAD_FLAG)
    machine.container("kube-scheduler", 2, status=None, log="")
    assert machine.look().returncode == 1


def test_exits_are_counted_though_the_kubelet_removes_containers(machine: Machine) -> None:
    machine.container("kube-scheduler", 0, status=1, log=BAD_FLAG)
    machine.look()
    for link in (machine.root / "log" / "containers").iterdir():
        link.unlink()
    machine.container("kube-scheduler", 1, status=1, log=BAD_FLAG)
    assert machine.look().returncode == 2


def test_a_component_whose_dependency_is_late_is_waited_for(machine: Machine) -> None:
    for attempt in range(5):
        machine.container("kube-scheduler", attempt, status=1, log=REFUSED)
    assert machine.look("kube-apiserver does not answer /readyz: no").returncode == 1


@pytest.mark.parametrize(("program", "status"), [("kube-apiserver", 1), ("stranger", 2), ("", 1)])
def test_only_another_program_on_its_port_is_certain_to_stay(
    machine: Machine, tmp_path: Path, program: str, status: int
) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        if program:
            # A process's name is that of the file it was started from.
            (tmp_path / program).symlink_to(sys.executable)
            process = subprocess.Popen(
                [tmp_path / program, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[listener.fileno()]
            )
            stack.enter_context(process)
        listener.close()
        for attempt in range(3):
            taken = f"listen tcp 0.0.0.0:{port}: bind: address already in use"
            machine.container("kube-apiserver", attempt, status=1, log=taken, age=9)
        assert machine.look("kube-apiserver does not answer /readyz: no").returncode == status


def test_what_ends_again_and_again_while_all_else_answers_is_certain(machine: Machine) -> None:
    for attempt in range(3):
        machine.container("kube-scheduler", attempt, status=1, log=BASELESS)
    assert machine.look("kube-scheduler does not answer /livez: no").returncode == 2


def test_exits_of_long_ago_are_not_held_against_a_component(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=BAD_FLAG, age=600)
    assert machine.look().returncode == 1


def test_exits_of_before_the_manifest_was_changed_do_not_count(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=BAD_FLAG)
    later = time.time() + 5
    os.utime(machine.root / "manifests" / "kube-scheduler.yaml", (later, later))
    assert machine.look().returncode == 1


def test_exits_of_another_pod_do_not_count(machine: Machine) -> None:
    machine.container("kube-scheduler", 0, status=1, log=BAD_FLAG, pod="old")
    machine.container("kube-scheduler", 1, status=1, log=BAD_FLAG, pod="new")
    assert machine.look().returncode == 1


def test_a_kubelet_that_is_started_again_and_again_is_certain(machine: Machine) -> None:
    machine.kubelet(state="activating", sub="auto-restart", restarts=5)
    assert machine.look().returncode == 1, "what happened before does not count"
    machine.kubelet(state="activating", sub="auto-restart", restarts=7)
    ran = machine.look()
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (2, "guilty\tkubelet")


PULL = (
    r'E1126 15:30:00.0 1 pod_workers.go:1338] "Error syncing pod, skipping" err="failed to \"StartContainer\" for '
    r'\"kube-scheduler\" with ErrImagePull: \"failed to pull and unpack image: no such host\""'
)


def test_an_image_that_is_missing_and_was_not_pulled_twice_is_certain(machine: Machine) -> None:
    machine.program("journalctl", f"cat <<'X'\n{PULL}\n{PULL}\nX")
    machine.watched_for(20)
    ran = machine.look()
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (2, "guilty\tkube-scheduler")
    told = machine.explained("guilty\tkube-scheduler")
    image = "registry.example/kube-scheduler:1"
    assert told.startswith(f"kube-scheduler is not started, as its image {image} is not on the machine")
    assert "What to do: run the command without skipping prepare/images" in told


def test_an_image_that_is_still_pulled_is_waited_for(machine: Machine) -> None:
    machine.program("journalctl", f"cat <<'X'\n{PULL}\nX")
    machine.watched_for(20)
    assert machine.look().returncode == 1


def test_a_certificate_that_does_not_hold_is_certain_after_a_minute(machine: Machine) -> None:
    said = "kube-apiserver does not answer /readyz: tls: x509: certificate is valid for 10.9.9.9, not 192.0.2.10"
    machine.container("kube-apiserver", 0, status=None, log="")
    assert machine.look(said).returncode == 1
    machine.watched_for(70)
    assert machine.look(said).returncode == 2
    told = machine.explained(f"{said}\nguilty\tkube-apiserver")
    assert "kube-apiserver runs, but does not answer: a certificate is valid for 10.9.9.9, not for 192.0.2.10" in told


def test_the_verdict_comes_first_and_the_evidence_with_it(machine: Machine) -> None:
    machine.container("etcd", 0, status=None, log="")
    machine.container("kube-apiserver", 0, status=None, log="")
    for attempt in (0, 1):
        machine.container("kube-scheduler", attempt, status=1, log=f"Usage:\n  --many=flags\n\n{BAD_FLAG}")
    noise = 'E1126 15:30:00.0 1 kubelet.go:1] "Container runtime network not ready" err="cni plugin not initialized"'
    complaint = (
        'E1126 15:30:01.0 1 pod_workers.go:1] "Error syncing pod, skipping" err="CrashLoopBackOff kube-scheduler"'
    )
    machine.program("journalctl", f"case $* in *kubelet*) cat <<'X'\n{noise}\n{complaint}\nX\n;; esac")
    told = machine.explained("kube-scheduler does not answer /livez: refused\nguilty\tkube-scheduler").splitlines()
    log = machine.root / "log/pods/kube-system_kube-scheduler-cp1_0123/kube-scheduler/1.log"
    assert told[0] == (
        "kube-scheduler does not run: it exited with 1 (2 times while it was watched): "
        "it does not know the flag --nonsense"
    )
    assert told[1] == "What to do: correct cluster.scheduler.extraArgs in the inventory and run the command again"
    assert told[2:4] == [diagnosis.shown(f"kube-scheduler says ({log}):"), f"  {BAD_FLAG}"]
    assert told[4:6] == ["The kubelet says:", f"  {complaint}"]
    assert told[-1] == "Seen last: kube-scheduler does not answer /livez: refused"


def test_whom_the_others_depend_on_is_suspected_first(machine: Machine) -> None:
    machine.container("etcd", 0, status=2, log="flag provided but not defined: -nonsense\nUsage:")
    machine.container("kube-apiserver", 0, status=1, log=REFUSED)
    told = machine.explained()
    assert told.startswith("etcd does not run: it exited with 2: it does not know the flag --nonsense\n")
    assert "Not running either: kube-apiserver, kube-scheduler" in told


def test_a_kubelet_that_does_not_run_is_explained_by_its_journal(machine: Machine) -> None:
    machine.kubelet(state="activating", sub="auto-restart", restarts=3)
    why = 'E1126 15:30:00.0 1 run.go:72] "failed" err="kubelet is configured to not run on a host using cgroup v1"'
    machine.program("journalctl", f"case $* in *kubelet*) cat <<'X'\n{why}\nX\n;; esac")
    told = machine.explained()
    assert told.startswith(
        "the kubelet does not run: it exited with 1, and was started 3 times again: it does not run on cgroup v1\n"
    )
    assert "failCgroupV1: false in cluster.kubelet.config" in told
    assert f"  {why}" in told.splitlines()


def test_f17_the_holder_of_a_port_is_named(machine: Machine) -> None:
    said = "guilty\tetcd\ncomponent\tetcd\texited\t1\t2\t/log\nport\t2379\t77\tredis"
    told = diagnosis.explained(f"{said}\nlog\tetcd\tlisten tcp 127.0.0.1:2379: bind: address already in use")
    assert "its port is taken: tcp 127.0.0.1:2379" in told
    assert "Port 2379 is taken by redis (pid 77)" in told


def test_a_component_in_back_off_is_held_back_until_its_manifest_changes(machine: Machine) -> None:
    systemctl = "echo ActiveEnterTimestamp=@1"
    machine.program("systemctl", systemctl)
    machine.container("etcd", 0, status=1, log="")
    script = diagnosis.none_held_back(COMPONENTS)
    assert machine.run(script).returncode == 0, "after its first end it is started at once"
    machine.container("etcd", 1, status=1, log="")
    assert machine.run(script).returncode == 1
    later = time.time() + 5
    os.utime(machine.root / "manifests" / "etcd.yaml", (later, later))
    assert machine.run(script).returncode == 0


def test_what_ended_before_the_kubelet_was_started_is_not_held_back(machine: Machine) -> None:
    for attempt in (0, 1):
        machine.container("etcd", attempt, status=1, log="", age=100)
    machine.program("systemctl", f"echo ActiveEnterTimestamp=@{int(time.time()) - 50}")
    assert machine.run(diagnosis.none_held_back(COMPONENTS)).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        "token=abcdef.0123456789abcdef",
        "bearer abcdef.0123456789abcdef",
        "password: hunter2",
        "-----BEGIN EC PRIVATE KEY",
    ],
)
def test_secrets_are_not_told(line: str) -> None:
    told = diagnosis.shown(line)
    assert "0123456789abcdef" not in told
    assert "hunter2" not in told
    assert "PRIVATE" not in told


def test_a_long_line_is_cut_and_a_diagnosis_is_short() -> None:
    logs = "\n".join(f"log\tetcd\t{chr(97 + number) * 500}" for number in range(26))
    said = "\n".join("seen" for _ in range(50))
    told = diagnosis.explained(f"{said}\nguilty\tetcd\ncomponent\tetcd\texited\t1\t2\t/log\n{logs}").splitlines()
    assert len(told) <= diagnosis.LINES
    assert max(map(len, told)) <= 200


def test_of_etcds_json_its_message_and_error_are_told_without_traces() -> None:
    line = '{"level":"fatal","ts":"2026","msg":"listener failed","error":"open \\"x\\": no","stacktrace":"go.etcd.io'
    assert diagnosis.plain(line) == 'listener failed: open \\"x\\": no'
    assert diagnosis.plain(f'{line}"}}') == 'listener failed: open "x": no'


def test_what_the_verdict_rests_on_is_not_cut_off() -> None:
    why = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    line = f"W1126 16:15:04.424962 1 logging.go:55] {'grpc: addrConn.createTransport failed ' * 5}{why}"
    told = diagnosis.explained(f"guilty\tkube-apiserver\nlog\tkube-apiserver\t{line}").splitlines()
    (shown,) = (each for each in told if "W1126" in each)
    assert why in shown
    assert len(shown) <= 200
