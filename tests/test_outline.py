from __future__ import annotations

import time

import pytest

from bootstrap import outline, phases
from bootstrap.gather import Request
from bootstrap.spec import Inventory
from bootstrap.steps import title
from tests import builders


def _inventory(workers: int, **more: object) -> Inventory:
    hosts = [{"name": "master1", "address": "192.0.2.1", "nodeAddress": "192.0.2.1", "roles": ["control-plane"]}]
    hosts += [{"name": f"worker{number}", "address": f"w{number}", "roles": ["worker"]} for number in range(workers)]
    return Inventory.model_validate({"hosts": hosts, **more})


def _text(inventory: Inventory, workflow: str, request: Request) -> list[str]:
    return str(outline.outline(inventory, workflow, request)).splitlines()


def test_every_phase_and_step_of_each_host_is_told() -> None:
    lines = _text(_inventory(1), "init", Request())
    assert lines[0] == "master1:"
    assert [line.strip() for line in lines if line.startswith("  ") and not line.startswith("    ")][:-2] == [
        phase.name for phase in phases.INIT
    ]
    assert "    file /etc/kubernetes/pki/ca.key (secret, 0600)" in lines
    assert "    object ConfigMap kube-system/kubeadm-config" in lines
    assert "    wait for Node worker0 to be Ready" in _text(_inventory(1), "join", Request())


def test_the_steps_are_those_of_a_run_that_has_looked() -> None:
    site = builders.site(builders.node("master1", address="192.0.2.1"))
    (told,) = outline.outline(_inventory(0), "init", Request()).outlines
    for task in told.tasks:
        if task.phase.name not in {"prepare/runtime", "prepare/images"}:  # what a bundle holds is made up in tests
            seen = [title(step) for step in task.phase.steps(site, site.nodes[0])]
            assert [title(step) for step in task.steps] == seen, task.phase.name


def test_hosts_that_are_alike_are_told_of_once() -> None:
    inventory = _inventory(6)
    other = inventory.hosts[1].model_copy(update={"name": "special", "labels": {"a": "b"}})
    inventory = inventory.model_copy(update={"hosts": (*inventory.hosts, other)})
    lines = _text(inventory, "join", Request())
    assert [line for line in lines if line.endswith(":") and not line.startswith(("  ", "Unknown"))] == [
        "worker0, worker1 ... worker5 (6 hosts):",
        "special:",
    ]
    assert "    wait for Node HOST to be Ready" in lines


def test_what_only_machines_know_is_said_to_be_unknown() -> None:
    assert any("node addresses" in line and "worker0" in line for line in _text(_inventory(1), "join", Request()))
    assert not any("node addresses" in line for line in _text(_inventory(1), "init", Request()))


def test_phases_and_hosts_that_were_not_asked_for_are_not_told() -> None:
    lines = _text(_inventory(2), "join", Request(skip=["prepare"], until="kubelet-start", limit=["worker1"]))
    assert lines[0] == "worker1:"
    assert [line for line in lines if line.startswith("  ") and line[2] != " "][:2] == [
        "  local-proxy",
        "  kubelet-start",
    ]
    assert "  mark-worker" not in lines


def test_five_thousand_hosts_are_planned_in_little_time() -> None:
    pods = {"networking": {"podSubnet": "10.0.0.0/8", "serviceSubnet": "172.16.0.0/16"}}
    inventory = _inventory(5000, cluster=pods)
    began = time.process_time()
    assert _text(inventory, "join", Request())
    # Its part is well below a second; a plan for each host would take a minute.
    assert time.process_time() - began < 20


@pytest.mark.parametrize("workflow", ["init", "join"])
def test_what_each_phase_writes_is_told_by_its_steps(workflow: str) -> None:
    for phase in outline.WORKFLOWS[workflow]:
        assert outline.writes(phase.name, workflow) or phase.name.startswith("wait-")
    assert "no file /etc/kubernetes/bootstrap-kubelet.conf" in outline.writes("kubelet-wait-bootstrap", "join")
