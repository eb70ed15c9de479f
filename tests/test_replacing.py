"""Which of the two halves of replace comes first; hosts are replaced in tests/lab."""

from __future__ import annotations

from typing import Any

import pytest

from bootstrap import replacing
from bootstrap.errors import HostsFailed, Unreachable, UsageError
from bootstrap.gather import Request
from bootstrap.joining import Joined
from bootstrap.removal import Choice, Outcome
from bootstrap.replacing import Replaced
from bootstrap.spec import Host, Inventory

INVENTORY = Inventory(
    hosts=tuple(Host(name=f"cp{n}", address=f"192.0.2.{n}", roles=("control-plane",)) for n in (1, 2, 3))
)


class Halves:
    """Joins and removals that only tell that they were done; `failing` is the one that fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, well: bool, failing: str = "") -> None:
        self.done: list[str] = []
        self.failing = failing
        monkeypatch.setattr(replacing, "_is_well", lambda *_: well)
        monkeypatch.setattr("bootstrap.joining.join", self.join)
        monkeypatch.setattr("bootstrap.removal.remove", self.remove)

    def join(self, inventory: Inventory, request: Request, *_: Any) -> Joined:
        names = ",".join(host.name for host in inventory.hosts)
        self._do(f"join {','.join(request.limit)} to {names}")
        return Joined(request.limit)

    def remove(self, _: Inventory, names: list[str], *__: Any) -> Outcome:
        self._do(f"remove {','.join(names)}")
        return Outcome(tuple(names), (), ())

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.failing and what.startswith(self.failing):
            raise HostsFailed({"cp3": Unreachable("cp3", "no route")})


def replace() -> Replaced:
    return replacing.replace(INVENTORY, "cp2", "cp3", Request(), lambda _: None, lambda _: None, Choice())


def test_a_host_that_is_well_goes_when_the_new_one_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(monkeypatch, well=True)
    assert replace().joined == ("cp3",)
    assert halves.done == ["join cp3 to cp1,cp2,cp3", "remove cp2"]


def test_a_lost_host_goes_first_and_the_new_one_joins_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(monkeypatch, well=False)
    assert replace().removal.removed == ("cp2",)
    assert halves.done == ["remove cp2", "join cp3 to cp1,cp3"]


@pytest.mark.parametrize(("well", "failing"), [(True, "join"), (False, "remove")])
def test_the_second_half_is_not_begun_where_the_first_one_fails(
    monkeypatch: pytest.MonkeyPatch, well: bool, failing: str
) -> None:
    halves = Halves(monkeypatch, well=well, failing=failing)
    with pytest.raises(HostsFailed):
        replace()
    assert len(halves.done) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("cp1", "cp1", "cannot take its own place"), ("cp1", "cp9", "the inventory has no host cp9")],
)
def test_names_that_cannot_be_meant_are_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        replacing.require_names(INVENTORY, old, new)
