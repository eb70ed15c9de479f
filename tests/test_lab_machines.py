from __future__ import annotations

from bootstrap.lab import machines


def test_each_address_has_a_link_address_of_its_own() -> None:
    assert machines.link_address("10.89.1.101") == "0a:58:0a:59:01:65"


def test_names_of_one_lab_are_never_those_of_another() -> None:
    # The lab `x` and the lab `x-cp1` would meet if a machine could be named like a volume.
    one = {machines.container("x", "cp1"), *(machines.volume("x", "cp1", kind) for kind in machines.VOLUMES)}
    other = {machines.container("x-cp1", "cp1"), *(machines.volume("x-cp1", "cp1", kind) for kind in machines.VOLUMES)}
    assert not one & other
