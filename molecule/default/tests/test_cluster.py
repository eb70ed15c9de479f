"""`kubestrap verify`'s own checks, on machines as molecule reaches them: by OpenSSH, and by testinfra's connection.

The smoke test, which is no affair of one machine, is made as the command makes it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bootstrap import inventory as inventories
from bootstrap import verify
from bootstrap.run import bundle_of
from bootstrap.verify.catalogue import CATALOGUE
from bootstrap.verify.subject import Remembering, Subject

INVENTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "inventory.yaml")


def test_every_check_of_the_machine_passes(host: Any) -> None:
    inventory = inventories.load(INVENTORY)
    (described,) = [each for each in inventory.hosts if each.name == host.backend.host]
    subject = Subject(described, inventory, bundle_of(inventory).contents)
    machine = Remembering(host)
    made = [verify.made(machine, subject, each) for each in CATALOGUE if each.applies(described, inventory)]
    assert len(made) > 30
    assert [outcome for outcome in made if outcome.problems] == []


def test_the_smoke_test_passes() -> None:
    inventory = inventories.load(INVENTORY)
    made = verify.verify(inventory, bundle_of(inventory).contents, only=["smoke"])
    assert {outcome.check for outcome in made} == set(verify.smoke.TEXTS)
    assert [outcome for outcome in made if outcome.problems] == []
