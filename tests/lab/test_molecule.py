"""The scenario `molecule/default`. Its cluster is the unbroken one of test_kill.py, which makes none of its own.

Costs 80 s, a minute of which test_kill.py would cost more without it.
"""

from __future__ import annotations

import re

from tests.lab.scenario import Done, steps


def test_the_scenario_makes_a_cluster_changes_nothing_again_and_finds_it_good(molecule: Done) -> None:
    assert steps(molecule.said, "default") == ["destroy", "create", "converge", "idempotence", "verify", "destroy"]
    first, second = re.findall(r"ok=1 +changed=(\d)", molecule.said)
    assert (first, second) == ("1", "0")
    assert "3 passed" in molecule.said
    warnings = [line for line in molecule.said.splitlines() if "WARNING" in line and "--destroy=never" not in line]
    assert warnings == []
    assert molecule.destroyed
