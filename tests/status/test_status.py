"""`kubestrap status` as a user calls it, on machines whose files and answers are as real ones'."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bootstrap import cli, paths, pki
from bootstrap.spec import Cluster
from bootstrap.status_commands import WATCH_SECONDS
from bootstrap.transport.base import Result
from tests.status.machines import Machines, node, pod


def data(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert cli.run(["status", "--output", "json"]) == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line["data"] for line in lines if line["event"] == "result"]
    return dict(found)


def rows(text: str, first: str) -> dict[str, list[str]]:
    """Give the rows of the table whose head begins with `first`, by their first cell."""
    (block,) = [block for block in text.split("\n\n") if block.startswith(first)]
    return {line.split()[0]: line.split()[1:] for line in block.splitlines()[1:]}


def test_a_cluster_that_is_well_is_shown_whole_and_without_a_warning(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["status"]) == 0
    told = capsys.readouterr()
    assert "Warning" not in told.err
    assert "answers 3 of 3 hosts" in told.out
    assert rows(told.out, "HOST") == {
        "cp1": ["control-plane", "ok", "Ready", "ok", "1.37.2"],
        "cp2": ["control-plane", "ok", "Ready", "ok", "1.37.2"],
        "w1": ["worker", "ok", "Ready", "-", "1.37.2"],
    }
    components = rows(told.out, "COMPONENT")
    assert components["kube-apiserver"] == ["2/2", "1.37.2"]
    assert components["coredns"] == ["2/2", "1.14.0"]
    assert components["kube-proxy"] == ["3/3", "1.37.2"]
    assert [row[0] for row in rows(told.out, "ETCD").values()] == ["leader", "follower"]
    certificates = rows(told.out, "CERTIFICATE")
    assert certificates["apiserver"][0] == certificates["admin.conf"][0] == "2"
    assert certificates["super-admin.conf"][0] == "1"
    assert (certificates["apiserver"][2], certificates["ca"][2]) == ("364", "3649")


def test_every_table_fits_80_columns(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["status"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_each_machine_is_asked_once_and_the_api_by_one_of_them(machines: Machines) -> None:
    assert cli.run(["status"]) == 0
    assert [machine.asked for machine in machines.held.values()] == [2, 1, 1]


def test_a_control_plane_that_is_down_is_named_and_all_others_are_told_of(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    machines.lost.add("cp1")
    machines.answer("/api/v1/nodes", [node("cp1", ready=False), node("cp2"), node("w1")])
    assert cli.run(["status"]) == 8
    told = capsys.readouterr()
    assert rows(told.out, "HOST") | {"cp1": []} == {
        "cp1": [],
        "cp2": ["control-plane", "ok", "Ready", "ok", "1.37.2"],
        "w1": ["worker", "ok", "Ready", "-", "1.37.2"],
    }
    assert "not reached" in told.out
    assert rows(told.out, "ETCD")["cp1"][:2] == ["no", "answer"]
    assert told.err.count("cp1: no route to it") == 2  # the warning, and why the command failed
    assert "Warning: cp1: its Node is not Ready" in told.err


def test_a_machine_that_cannot_be_looked_at_is_not_told_to_be_well(
    machines: Machines, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines.held["w1"], "run", lambda *_, **__: Result(2, b"", b"sh: Cannot fork"))
    assert cli.run(["status"]) != 0
    told = capsys.readouterr()
    assert rows(told.out, "HOST")["w1"][1] != "ok"
    assert "w1: the machine could not be looked at (status 2); it said: sh: Cannot fork" in told.err


def test_what_is_wrong_is_said_in_words(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    machines.held["w1"].units("inactive")
    machines.held["w1"].answer("/readyz-endpoint", refused="The connection to the server was refused\n")
    machines.held["cp2"].answer("/readyz-api", refused="[-]etcd failed\n")
    machines.answer("/api/v1/nodes", [node("cp1"), node("cp2"), node("old")])
    machines.answer(
        "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane",
        [pod("kube-scheduler", "cp2", ready=False)],
    )
    machines.etcd.states["cp2"]["errors"] = ["memberID:2 alarm:NOSPACE "]
    problems = data(capsys)["problems"]
    for expected in (
        "w1: kubelet.service is inactive",
        "w1: nothing answers at the cluster's endpoint from here: The connection to the server was refused",
        "cp2: its API server is not ready: [-]etcd failed",
        "w1: it is no Node of the cluster: `kubestrap join` makes it one",
        "old: the inventory does not have this Node",
        "kube-scheduler on cp2: 0 of 1 ready",
    ):
        assert expected in problems
    assert any("NOSPACE" in problem for problem in problems)


def test_without_an_api_server_machines_are_still_told_of(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cp1", "cp2"):
        machines.held[name].answer("/readyz-api", refused="connection refused\n")
    found = data(capsys)
    assert "the API could not be asked: no API server is ready" in found["problems"]
    assert {host["node"] for host in found["hosts"]} == {"unknown"}
    assert len(found["certificates"]) > 10


def test_a_machine_before_init_has_nothing_and_that_is_no_error(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    for machine in machines.held.values():
        (machine.root / "kubectl").unlink()
    machines.etcd.down = {"cp1", "cp2"}
    found = data(capsys)
    assert "the API could not be asked: no API server is ready" in found["problems"]
    assert {host["endpoint"] for host in found["hosts"]} == {""}


def test_a_certificate_that_ends_soon_or_cannot_be_read_is_a_warning(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    key = pki.new_key("ECDSA-P256")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3650, hours=-1)
    folder = Path(f"{machines.held['cp1'].root}{paths.PKI}")
    (folder / "ca.crt").write_bytes(pki.certificate_pem(pki.self_signed("kubernetes", key, Cluster(), past)))
    (folder / "apiserver.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    found = data(capsys)
    assert f"cp1: {paths.PKI}/apiserver.crt holds no certificate" in found["problems"]
    assert any(problem.startswith(f"cp1: {paths.PKI}/ca.crt expires on ") for problem in found["problems"])
    days = {(each["host"], each["name"]): each["days"] for each in found["certificates"]}
    assert days["cp1", "ca"] == 0


def test_no_key_leaves_a_machine(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[bytes] = []
    for machine in machines.held.values():
        whole = machine.run

        def run(*arguments: Any, _whole: Any = whole, **options: Any) -> Any:
            result = _whole(*arguments, **options)
            sent.append(result.stdout)
            return result

        machine.run = run  # type: ignore[method-assign]
    assert cli.run(["status"]) == 0
    conf = Path(f"{machines.held['cp1'].root}{paths.ADMIN_CONF}").read_text()
    (key,) = [line.split()[1] for line in conf.splitlines() if "client-key-data" in line]
    assert key.encode() not in b"".join(sent)
    assert b"PRIVATE KEY" not in b"".join(sent)


def test_watching_goes_on_and_asks_machines_anew_over_the_same_connections(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []
    really = time.sleep

    def sleep(seconds: float) -> None:
        if seconds != WATCH_SECONDS:
            really(seconds)
            return
        pauses.append(seconds)
        if len(pauses) == 2:
            machines.lost.add("w1")
            machines.held["cp1"].units("failed")
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert cli.run(["status", "--watch"]) == 130
    told = capsys.readouterr()
    assert told.out.count("Endpoint ") == 4
    assert "\x1b" not in told.out  # it is no terminal
    assert machines.connections == 2
    assert "cp1: kubelet.service is failed" in told.err
