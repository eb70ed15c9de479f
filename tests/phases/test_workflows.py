from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import replace

import pytest

from bootstrap import paths
from bootstrap.phases import INIT, JOIN, etcd_join
from bootstrap.plan import Phase, build, names
from bootstrap.steps import (
    ApiAbsent,
    ApiObject,
    ApiWait,
    Command,
    Directory,
    File,
    Learner,
    NodeMarks,
    Unit,
    Voter,
    Wait,
    title,
)
from tests.builders import node, site

WORKFLOWS = pytest.mark.parametrize("workflow", [INIT, JOIN], ids=["init", "join"])


def order(workflow: tuple[Phase, ...]) -> list[str]:
    return [phase.name for phase in workflow]


def test_init_has_the_phases_of_kubeadm_in_their_order() -> None:
    groups = list(dict.fromkeys(name.partition("/")[0] for name in order(INIT)))
    assert groups == [
        "prepare",
        "certs",
        "kubeconfig",
        "etcd",
        "control-plane",
        "vip",
        "kubelet-start",
        "wait-control-plane",
        "upload-config",
        "mark-control-plane",
        "bootstrap-token",
        "kubelet-finalize",
        "addon",
    ]


def test_join_has_the_phases_of_kubeadm_in_their_order() -> None:
    assert list(dict.fromkeys(name.partition("/")[0] for name in order(JOIN))) == [
        "prepare",
        "certs",
        "kubeconfig",
        "local-proxy",
        "kubelet-start",
        "etcd-join",
        "control-plane",
        "vip",
        "wait-local-proxy",
        "kubelet-wait-bootstrap",
        "wait-apiserver",
        "mark-control-plane",
        "mark-worker",
        "wait-control-plane",
        "kubelet-finalize",
    ]


def test_hosts_that_join_a_control_plane_go_into_etcd_one_after_the_other_and_else_together() -> None:
    masters = [node(f"cp{number}", address=f"192.0.2.{number}") for number in (1, 2, 3)]
    stages = build(JOIN, site(*masters), nodes=masters[1:], in_turn=True).stages
    assert [(stage.turn, stage.hosts) for stage in stages] == [
        (False, ("cp2", "cp3")),
        (True, ("cp2",)),
        (True, ("cp3",)),
        (False, ("cp2", "cp3")),
    ]
    steps = [step for task in stages[1].tasks for step in task.steps]
    voter = next(number for number, step in enumerate(steps) if isinstance(step, Voter))
    written = [step.path for step in steps[:voter] if isinstance(step, File)]
    assert isinstance(steps[0], Learner)
    assert written == [f"{paths.MANIFESTS}/etcd.yaml"], "no API server before its etcd member answers it"


def test_a_host_whose_member_lost_its_data_is_cleared_before_it_is_added_anew() -> None:
    masters = [node(f"cp{number}", address=f"192.0.2.{number}") for number in (1, 2)]
    described = replace(site(*masters), lost={"cp2": 7})
    (task,) = build([etcd_join.ETCD_JOIN], described, nodes=masters[1:]).tasks
    learner = next(number for number, step in enumerate(task.steps) if isinstance(step, Learner))
    added = task.steps[learner]
    assert isinstance(added, Learner)
    assert added.lost == 7
    assert task.steps[:learner] == added.withdrawn


def test_manifests_are_in_place_before_the_kubelet_starts() -> None:
    described = site()
    steps = [step for task in build(INIT, described, nodes=described.control_plane).tasks for step in task.steps]
    started = next(number for number, step in enumerate(steps) if step == kubelet_unit(steps))
    manifests = [
        number
        for number, step in enumerate(steps)
        if isinstance(step, File) and step.path.startswith(f"{paths.MANIFESTS}/")
    ]
    assert len(manifests) == 4
    assert max(manifests) < started


def kubelet_unit(steps: list[object]) -> Unit:
    return next(step for step in steps if isinstance(step, Unit) and step.name == "kubelet.service")


@WORKFLOWS
def test_every_phase_has_a_help_that_is_one_short_sentence(workflow: tuple[Phase, ...]) -> None:
    for phase in workflow:
        assert phase.help.endswith("."), phase.name
        assert len(phase.help) <= 110, phase.name


@WORKFLOWS
def test_no_phase_stands_in_a_workflow_twice(workflow: tuple[Phase, ...]) -> None:
    assert len(set(order(workflow))) == len(workflow)
    assert len(names(workflow)) == len(set(names(workflow)))


@WORKFLOWS
def test_equal_sites_give_equal_plans(workflow: tuple[Phase, ...]) -> None:
    one, other = site(), site()
    assert build(workflow, one, nodes=one.nodes) == build(workflow, other, nodes=other.nodes)


@WORKFLOWS
def test_nothing_is_asked_of_a_host_twice(workflow: tuple[Phase, ...]) -> None:
    described = site()
    for member in described.nodes:
        steps = [
            (type(step).__name__, title(step))
            for task in build(workflow, described, nodes=[member]).tasks
            for step in task.steps
            # Each phase can be done without the others, so each makes sure of the folders it needs.
            if task.node == member and not isinstance(step, Directory)
        ]
        twice = {step for step, times in Counter(steps).items() if times > 1}
        # kubeconfig/kubelet writes what is needed at first, kubelet-finalize what holds from then on.
        assert twice <= {("File", paths.KUBELET_CONF)}


@WORKFLOWS
def test_directories_asked_for_by_several_phases_have_one_mode(workflow: tuple[Phase, ...]) -> None:
    described = site()
    modes: dict[str, set[int]] = {}
    for task in build(workflow, described, nodes=described.nodes).tasks:
        for step in task.steps:
            if isinstance(step, Directory):
                modes.setdefault(step.path, set()).add(step.mode)
    assert all(len(seen) == 1 for seen in modes.values())
    assert modes[paths.MANIFESTS] == {0o700}
    assert modes[paths.KUBELET] == {0o700}
    assert modes[paths.PKI] == {0o755}


def mode(path: str) -> int:
    if path.endswith((".key", ".conf")) and path.startswith(f"{paths.KUBERNETES}/"):
        return 0o600
    return 0o600 if path.startswith(f"{paths.MANIFESTS}/") or path.endswith("/sa.pub") else 0o644


@WORKFLOWS
def test_every_file_has_the_mode_kubeadm_gives_it(workflow: tuple[Phase, ...]) -> None:
    described = site()
    files = [
        step
        for task in build(workflow, described, nodes=described.nodes).tasks
        for step in task.steps
        if isinstance(step, File)
    ]
    assert {step.path: oct(step.mode) for step in files} == {step.path: oct(mode(step.path)) for step in files}


@WORKFLOWS
def test_keys_and_kubeconfigs_are_never_shown(workflow: tuple[Phase, ...]) -> None:
    described = site()
    for task in build(workflow, described, nodes=described.nodes).tasks:
        for step in task.steps:
            if isinstance(step, File):
                hidden = step.path.endswith((".key", ".conf")) and step.path.startswith(f"{paths.KUBERNETES}/")
                assert step.secret == hidden, step.path


def test_the_token_stands_in_one_secret_file_alone() -> None:
    described = site()
    assert described.joining
    secret = described.joining.token.secret
    for task in build(JOIN, described, nodes=described.nodes).tasks:
        for step in task.steps:
            if isinstance(step, File) and step.path == paths.BOOTSTRAP_KUBELET_CONF:
                assert secret.encode() in step.data
            else:
                assert secret not in repr(step)


@WORKFLOWS
def test_every_script_is_posix_sh(workflow: tuple[Phase, ...]) -> None:
    described = site(cluster={"name": "demo"})
    for task in build(workflow, described, nodes=described.nodes).tasks:
        for step in task.steps:
            scripts = ()
            if isinstance(step, Command):
                scripts = (step.run, step.unless)
            elif isinstance(step, Wait):
                scripts = (step.until, step.explain)
            for script in scripts:
                checked = subprocess.run(["dash", "-n"], input=script.encode(), capture_output=True, check=False)
                assert checked.returncode == 0, f"{title(step)}: {checked.stderr.decode()}"


@WORKFLOWS
def test_phases_of_machines_and_of_the_cluster_are_not_mixed(workflow: tuple[Phase, ...]) -> None:
    described = site()
    for task in build(workflow, described, nodes=described.nodes).tasks:
        api = [isinstance(step, ApiObject | ApiAbsent | ApiWait | NodeMarks) for step in task.steps]
        groups = ("upload-config", "mark-control-plane", "mark-worker", "bootstrap-token", "addon")
        assert all(api) if task.phase.name.partition("/")[0] in groups else not any(api)


def test_a_host_of_both_roles_is_a_control_plane_host() -> None:
    both = node("both", "control-plane", "worker")
    joined = {task.phase.name for task in build(JOIN, site(both), nodes=[both]).tasks}
    assert "etcd-join" in joined
    assert not joined & {"local-proxy", "kubelet-wait-bootstrap", "mark-worker"}
    assert build(INIT, site(both), nodes=[both]).tasks


def test_a_site_without_a_cluster_to_join_cannot_be_planned_as_a_join() -> None:
    described = site(joining=False)
    with pytest.raises(ValueError, match="does not say what is joined"):
        build(JOIN, described, nodes=described.nodes)
