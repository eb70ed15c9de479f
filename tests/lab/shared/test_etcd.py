"""Looking after a real etcd: its status, snapshots that are restored, defragmenting, and the alarm for space (F23).

The tests go on from each other. Costs about 20 seconds on the shared cluster, which is left as it was.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootstrap import paths
from tests.lab import kills
from tests.lab.clusters import KUBECTL, Cluster

WORD = "kept-in-the-snapshot"
SCRATCH = "/root/etcd-test"
PKI = f"{paths.PKI}/etcd"
ETCD = (
    f"{paths.BINARIES}/kubectl --kubeconfig /dev/null --server https://127.0.0.1:2379 --certificate-authority "
    f"{PKI}/ca.crt --client-certificate {PKI}/healthcheck-client.crt --client-key {PKI}/healthcheck-client.key"
)


def result(said: str) -> Any:
    """Give the data of a command that was told to write JSON lines."""
    (data,) = (line["data"] for line in map(json.loads, said.splitlines()) if line["event"] == "result")
    return data


def ask(cluster: Cluster, *command: str | Path) -> Any:
    return result(cluster.kubestrap("etcd", *command, "--output", "json").stdout)


def streams(cluster: Cluster) -> str:
    """List the processes by which etcd is asked: of runs that are over, there must be none."""
    return cluster.on(cluster.master, "grep -l -s -x kubectl /proc/[0-9]*/comm || :")


def core(cluster: Cluster) -> dict[str, str]:
    """Give the containers of etcd and the API server."""
    running = cluster.containers(cluster.master)
    return {name: id_ for name, id_ in running.items() if name.endswith(("/etcd", "/kube-apiserver"))}


@pytest.fixture(scope="module")
def snapshot(cluster: Cluster) -> Iterator[Path]:
    """A snapshot that was saved after a ConfigMap was made."""
    cluster.kubectl(f"create configmap etcd-test --from-literal=word={WORD}")
    path = cluster.home / "etcd.db"
    try:
        yield path
    finally:
        cluster.kubectl("delete configmap etcd-test --ignore-not-found")
        path.unlink(missing_ok=True)


def test_the_status_tells_what_every_member_says(cluster: Cluster) -> None:
    data = ask(cluster, "status")
    (member,) = data["members"]
    assert data["warnings"] == []
    assert (member["host"], member["name"], member["leader"], member["learner"]) == ("cp1", "cp1", True, False)
    assert 0 < member["sizeInUse"] <= member["size"] < member["quota"] == 2 * 1024**3
    assert member["leaderId"] == member["id"]
    assert member["version"].startswith("3.")
    assert min(member["raftTerm"], member["raftIndex"], member["revision"]) > 0
    listed = json.loads(cluster.on(cluster.master, f"echo '{{}}' | {ETCD} create --raw /v3/cluster/member/list -f -"))
    assert [f"{int(each['ID']):x}" for each in listed["members"]] == [member["id"]]
    head, row = cluster.kubestrap("etcd", "status").stdout.splitlines()
    assert head.split()[:3] == ["NAME", "ID", "VERSION"]
    assert row.split()[:3] == ["cp1", member["id"], member["version"]]
    assert row.split()[-1] == "none"


def test_a_snapshot_that_was_saved_is_restored_with_what_was_there(cluster: Cluster, snapshot: Path) -> None:
    before = cluster.on(cluster.master, "ls -A / /root /tmp /var/lib /var/lib/etcd /run")
    with cluster.start("etcd", "snapshot", "save", snapshot) as process:
        kills.until(process, "^From cp1")
        process.kill()
    assert not snapshot.exists()
    saved = ask(cluster, "snapshot", "save", snapshot)
    assert [path.name for path in cluster.home.iterdir() if snapshot.name in path.name] == [snapshot.name]
    assert snapshot.stat().st_mode & 0o777 == 0o600
    assert cluster.on(cluster.master, "ls -A / /root /tmp /var/lib /var/lib/etcd /run") == before
    deadline = time.monotonic() + 30
    while streams(cluster):
        assert time.monotonic() < deadline, "the stream of the killed command goes on"
        time.sleep(0.5)
    checked = ask(cluster, "snapshot", "status", snapshot)
    assert (checked["size"], checked["sha256"]) == (saved["size"], saved["sha256"])
    assert saved["revisionAtLeast"] > 0

    sent = base64.b64encode(snapshot.read_bytes()).decode()
    cluster.on(cluster.master, f"mkdir -m 0700 {SCRATCH} && base64 -d > {SCRATCH}/etcd.db", stdin=sent)
    try:
        image = cluster.on(cluster.master, "ctr -n k8s.io images ls -q | grep -m 1 /etcd:").strip()
        restore = f"{paths.BINARIES}/etcdutl snapshot restore {SCRATCH}/etcd.db --data-dir {SCRATCH}/data"
        mount = f"type=bind,src={SCRATCH},dst={SCRATCH},options=rbind:rw"
        cluster.on(cluster.master, f"ctr -n k8s.io run --rm --mount {mount} {image} etcd-test {restore}")
        assert cluster.on(cluster.master, f"grep -a -c {WORD} {SCRATCH}/data/member/snap/db").strip() != "0"
    finally:
        cluster.on(cluster.master, f"rm -rf {SCRATCH}")


def test_a_snapshot_is_not_overwritten_and_one_that_is_cut_short_is_refused(cluster: Cluster, snapshot: Path) -> None:
    data = snapshot.read_bytes()
    refused = cluster.kubestrap("etcd", "snapshot", "save", snapshot, status=2)
    assert "--force" in refused.stderr
    assert snapshot.read_bytes() == data
    short = cluster.home / "short.db"
    for length, why in ((len(data) - 1, "cut short"), (len(data) - 512, "damaged"), (len(data) - 32, "no hash")):
        short.write_bytes(data[:length])
        assert why in cluster.kubestrap("etcd", "snapshot", "status", short, status=3).stderr
    short.unlink()


def test_a_defragmentation_leaves_the_api_working(cluster: Cluster) -> None:
    before = core(cluster)
    cluster.kubestrap("etcd", "defrag", "--compact")
    (done,) = ask(cluster, "defrag")["members"]
    assert done["host"] == "cp1"
    assert cluster.kubectl("get --raw /readyz") == "ok"
    cluster.kubectl("create configmap etcd-test-defrag --from-literal=a=b")
    cluster.kubectl("delete configmap etcd-test-defrag")
    assert core(cluster) == before


@contextmanager
def alarmed(cluster: Cluster, member: str) -> Iterator[None]:
    def alarm(action: str) -> None:
        body = json.dumps({"action": action, "memberID": str(int(member, 16)), "alarm": "NOSPACE"})
        cluster.on(cluster.master, f"{ETCD} create --raw /v3/maintenance/alarm -f -", stdin=body)

    alarm("ACTIVATE")
    try:
        yield
    finally:
        alarm("DEACTIVATE")


def test_f23_the_alarm_for_space_is_told_by_every_command_and_disarming_it_restores_writes(cluster: Cluster) -> None:
    (member,) = ask(cluster, "status")["members"]
    write = f"{KUBECTL} create configmap etcd-test-alarm --from-literal=a=b"
    with alarmed(cluster, member["id"]):  # the leaders of the cluster bear it for some ten seconds
        commands = (("etcd", "status"), ("etcd", "alarms"), ("verify", "--only", "etcd-alarms"))
        asked = [
            cluster.start(*command, "--output", "json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for command in commands
        ]
        refused = cluster.ssh(cluster.master, write)
        status, alarms, verify = (process.communicate(timeout=120)[0] for process in asked)
        cluster.kubestrap("etcd", "alarms", "disarm")
    assert "database space exceeded" in refused.stderr
    assert [process.returncode for process in asked] == [0, 0, 1]
    (warning,) = result(status)["warnings"]
    assert "cp1: alarm NOSPACE" in warning
    assert "`kubestrap etcd alarms disarm`" in warning
    assert result(status)["members"][0]["alarms"] == ["NOSPACE"]
    assert result(alarms) == {"alarms": [{"alarm": "NOSPACE", "member": "cp1", "id": member["id"]}]}
    (failed,) = result(verify)["failed"]
    assert (failed["host"], failed["check"]) == ("cp1", "etcd-alarms")
    assert "alarm NOSPACE" in failed["problems"][0]

    cluster.on(cluster.master, write)
    cluster.kubectl("delete configmap etcd-test-alarm")
    assert ask(cluster, "alarms") == {"alarms": []}
    assert ask(cluster, "alarms", "disarm") == {"disarmed": 0}
    cluster.kubestrap("verify", "--only", "etcd-alarms")
