"""`kubestrap verify`'s own checks, of machines as molecule reaches them: by OpenSSH, and by testinfra's connection.

The smoke test, which is no affair of one machine, is made as the command makes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import inventory as inventories
from bootstrap import verify
from bootstrap.run import bundle_of
from bootstrap.site import Contents
from bootstrap.spec import Inventory
from bootstrap.verify.catalogue import CATALOGUE, SETTLING
from bootstrap.verify.subject import Remembering, Subject


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return inventories.load(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "inventory.yaml"))


@pytest.fixture(scope="module")
def contents(inventory: Inventory) -> Contents:
    return bundle_of(inventory).contents


@pytest.fixture(scope="module", autouse=True)
def started(inventory: Inventory, contents: Contents) -> None:
    """Let what is still starting start, as the command does."""
    verify.verify(inventory, contents, only=sorted(SETTLING))


def test_the_machine_passes_every_check(host: Any, inventory: Inventory, contents: Contents) -> None:
    (described,) = (each for each in inventory.hosts if each.name == host.backend.get_hostname())
    lead = inventory.control_plane[0].name
    machine, subject = Remembering(host), Subject(described, inventory, contents)
    wanted = [each for each in CATALOGUE if each.applies(described, inventory, lead)]
    places = {"all", "node"}
    if described.is_control_plane:
        places |= {"control-plane", "control-plane, etcd", "etcd"}
    if described.name == lead:
        places |= {"cluster"}
    assert {each.on for each in wanted} == places
    expect_passed(verify.made(machine, subject, each) for each in wanted)


def test_the_cluster_passes_the_smoke_test(inventory: Inventory, contents: Contents) -> None:
    made = verify.verify(inventory, contents, only=["smoke"])
    expect_passed(made)
    assert {outcome.check for outcome in made} == set(verify.smoke.TEXTS)


def expect_passed(made: Iterable[verify.Outcome]) -> None:
    failed = [f"{one.host} {one.check}: {'; '.join(one.problems)}" for one in made if one.problems]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)
