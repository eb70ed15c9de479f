from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import cli
from bootstrap.diff import Differences
from bootstrap.events import Depends, Drift, Event, StepDone

GOOD = (
    "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
    "hosts:\n  - {name: node1, address: 192.0.2.10, roles: [control-plane]}\n"
    "  - {name: node2, address: 192.0.2.11, roles: [worker]}\n"
)


def _lines(*events: Event) -> list[str]:
    found = Differences(lambda _: None)
    for event in events:
        found(event)
    return list(found.lines())


def test_differences_are_told_by_host_and_phase() -> None:
    assert _lines(
        StepDone("a", "p", "right", "same"),
        Drift("a", "p", "/f", "updated", "--- /f\n+++ /f\n-x"),
        Drift("a", "p", "it", "", "not yet"),
        Depends("a", "q", "unit", "p", "/f", "started"),
        Depends("b", "q", "other", "p", "/f"),
    ) == [
        "a  p",
        "  /f: updated",
        "    --- /f",
        "    +++ /f",
        "    -x",
        "  it: to be waited for",
        "    not yet",
        "a  q",
        "  unit: started (after p: /f)",
        "b  q",
        "  other: to be seen (after p: /f)",
        "4 steps would change something or wait.",
    ]


def test_where_all_is_right_there_is_no_drift() -> None:
    found = Differences(lambda _: None)
    found(StepDone("a", "p", "right", "same"))
    assert not found.drift
    assert list(found.lines()) == ["No differences."]
    found(Drift("a", "p", "/f", "updated"))
    assert found.drift


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["init", "phase", "certz"], "no such phase: certz; did you mean certs?"),
        (["join", "phase", "addon"], "no such phase: addon"),
        (["init", "--until", "kubelet-strat"], "no such phase: kubelet-strat; did you mean kubelet-start?"),
        (["diff", "init", "--skip-phases", "adons"], "no such phase: adons; did you mean addon?"),
        (["join", "--limit", "nod2"], "the inventory has no host nod2; did you mean node2?"),
        (["init", "--limit", "node2"], "nothing is done on node2 by this command"),
        (["init", "--detailed-exitcode"], "--detailed-exitcode goes with --dry-run"),
    ],
)
def test_names_that_there_are_not_are_refused_before_anything_is_connected_to(
    words: list[str], told: str, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, "-i", inventory]) == 2
    assert told in capsys.readouterr().err


def test_options_before_a_subcommand_are_refused(inventory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", "-i", inventory, "phase", "certs"]) == 2
    assert "--inventory must stand after `phase`" in capsys.readouterr().err


def test_a_plan_is_data_on_stdout(inventory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", "join", "-i", inventory, "--until", "prepare/modules"]) == 0
    streams = capsys.readouterr()
    assert streams.out.splitlines()[:3] == [
        "node2:",
        "  prepare/modules",
        "    file /etc/modules-load.d/kubestrap.conf (0644)",
    ]
    assert streams.err == ""


def test_phases_are_listed_with_what_they_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["phases", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"init:", "join:", "  certs/ca  (control-plane)", "  addon/coredns  (cluster)"} <= set(lines)
    assert "      file /etc/kubernetes/pki/ca.key (secret, 0600)" in lines
