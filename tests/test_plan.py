from __future__ import annotations

from collections.abc import Iterator

import pytest

from bootstrap import phases
from bootstrap.errors import UsageError
from bootstrap.gather import Request
from bootstrap.plan import Phase, build, names, select
from bootstrap.site import Node, Site
from bootstrap.spec import Inventory
from bootstrap.steps import Step
from tests import builders


def _steps(_: Site, __: Node) -> Iterator[Step]:
    """Do nothing."""
    yield from ()


def _workflow(*wanted: str) -> list[Phase]:
    return [Phase(name, "all", _steps) for name in wanted]


WORKFLOW = _workflow("one", "group/a", "group/b", "two")


def _chosen(only: tuple[str, ...] = (), skip: tuple[str, ...] = (), until: str = "") -> list[str]:
    return [phase.name for phase in select(WORKFLOW, only=only, skip=skip, until=until)]


def test_phases_are_chosen_by_name_and_group_in_the_workflows_order() -> None:
    assert _chosen() == ["one", "group/a", "group/b", "two"]
    assert _chosen(("two", "group")) == ["group/a", "group/b", "two"]
    assert _chosen(("group/b",)) == ["group/b"]
    assert _chosen(skip=("group/a", "two")) == ["one", "group/b"]
    assert _chosen(("group",), ("group/b",)) == ["group/a"]


def test_a_run_ends_with_the_phase_or_group_it_goes_until() -> None:
    assert _chosen(until="group/a") == ["one", "group/a"]
    assert _chosen(until="group") == ["one", "group/a", "group/b"]
    assert _chosen(until="preflight") == []
    assert _chosen(("two",), until="one") == []


def test_preflight_is_a_phase_without_steps() -> None:
    assert _chosen(("preflight",)) == []
    assert len(_chosen(skip=("preflight",))) == 4


@pytest.mark.parametrize("option", ["only", "skip", "until"])
def test_a_name_that_no_phase_has_is_refused_with_the_nearest(option: str) -> None:
    wrong = {"only": ("grup",), "skip": ("grup",), "until": "grup"}[option]
    with pytest.raises(UsageError, match="no such phase: grup; did you mean group"):
        select(WORKFLOW, **{option: wrong})  # type: ignore[arg-type]


def test_a_plan_leaves_out_what_is_skipped() -> None:
    site = builders.site()
    plan = build(phases.INIT, site, nodes=site.nodes, skip=("prepare", "addon/flannel"))
    done = {task.phase.name for task in plan.tasks}
    assert "addon/coredns" in done
    assert not {name for name in done if name.startswith("prepare/")} | (done & {"addon/flannel"})


def test_every_phase_has_a_name_of_its_own_and_help() -> None:
    for workflow in (phases.INIT, phases.JOIN):
        assert len({phase.name for phase in workflow}) == len(workflow)
        assert all(phase.help for phase in workflow)
        assert "preflight" not in names(workflow)


HOSTS = Inventory.model_validate(
    {
        "hosts": [
            {"name": "master1", "address": "192.0.2.1", "roles": ["control-plane"]},
            {"name": "worker1", "address": "192.0.2.2", "roles": ["worker"]},
            {"name": "worker2", "address": "192.0.2.3", "roles": ["worker"]},
        ]
    }
)


def test_a_run_is_limited_to_hosts_by_name() -> None:
    workers = HOSTS.hosts[1:]
    assert [machine.name for machine in Request(limit=["worker2"]).machines(HOSTS, workers)] == ["worker2"]
    assert len(Request().machines(HOSTS, workers)) == 2


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (["worker"], "the inventory has no host worker; did you mean worker2?"),
        (["zebra"], "the inventory has no host zebra"),
        (["master1"], "nothing is done on master1 by this command"),
    ],
)
def test_a_host_that_cannot_be_meant_is_refused(limit: list[str], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        Request(limit=limit).machines(HOSTS, HOSTS.hosts[1:])
    assert str(raised.value) == told
