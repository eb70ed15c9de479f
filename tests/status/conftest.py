"""The cluster that the tests of `status` look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import connections
from tests.status.machines import INVENTORY, Machines


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machines:
    made = Machines(tmp_path)
    monkeypatch.setattr(connections, "connected", made.connected)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(INVENTORY)
    return made
