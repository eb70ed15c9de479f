"""What is said of each kind of mistake: its examples are what they are shown as."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from bootstrap import inventory, mistakes
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
