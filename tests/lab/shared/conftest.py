"""The cluster that the tests of this folder share. It is gone before tests elsewhere take the processors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.clusters import Cluster
from tests.lab.conftest import lab_of


@pytest.fixture(scope="package")
def cluster(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that most tests share: one control plane, two workers joined, and `worker3` that is in none."""
    with lab_of("shared", machines=4, snapshot=prepared) as lab:
        made = Cluster(lab, Path(tmp_path_factory.mktemp("shared")))
        made.write_inventory(["cp1", "worker1", "worker2"])
        made.kubestrap("init")
        made.kubestrap("join")
        yield made
