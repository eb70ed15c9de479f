"""What is said of each kind of mistake: its examples are what they are shown as."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from bootstrap import cli, inventory, mistakes, verify
from bootstrap.inventory import InventoryError
from bootstrap.values import ProblemId
from tools import errors_docs

KNOWN = mistakes.catalogue()


def test_every_kind_of_mistake_is_explained() -> None:
    assert sorted(KNOWN) == sorted(get_args(ProblemId))


@pytest.mark.parametrize("name", KNOWN)
def test_the_wrong_example_is_refused_for_this_alone_and_the_right_one_is_not(name: str, tmp_path: Path) -> None:
    mistake = KNOWN[name]
    path = errors_docs.lay_out(mistake, mistake.wrong, tmp_path)
    with pytest.raises(InventoryError) as refused:
        inventory.load(path)
    assert [problem.id for problem in refused.value.problems] == [name]
    inventory.require_supported(inventory.load(errors_docs.lay_out(mistake, mistake.right, tmp_path)))


def test_a_page_shows_the_message_that_its_wrong_example_gets() -> None:
    page = errors_docs.page(KNOWN["inventory-bad-version"])
    assert 'inventory.yaml:3:30: cluster.kubernetesVersion: "v1.37.2" is not a Kubernetes version' in page


def test_explain_shows_a_mistake_as_its_message_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "[inventory-no-control-plane]"]) == 0
    told = capsys.readouterr().out
    assert "What to do: Add control-plane to the roles of a host." in told
    assert "roles: [control-plane, worker]" in told.partition("Right:")[2]


def test_explain_lists_every_mistake_and_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*KNOWN, *(name for name, _, _ in verify.describe())]


def test_explain_says_what_a_check_of_verify_looks_at(capsys: pytest.CaptureFixture[str]) -> None:
    name, _, says = verify.describe()[0]
    assert cli.run(["explain", name]) == 0
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "told"),
    [("inventory-bad-lable", "did you mean inventory-bad-label?"), ("xyzzy", "kubestrap explain lists all")],
)
def test_a_name_that_there_is_not_gives_the_nearest_one(
    name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["explain", name]) == 2
    assert told in capsys.readouterr().err
