"""Labs that tests share. KUBESTRAP_TEST_LAB names them (runs stand side by side), KUBESTRAP_KEEP_LABS=1 keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap.lab import labs, snapshots
from bootstrap.lab.labs import Lab
from tests.lab import scenario
from tests.lab.clusters import Cluster

SECONDS = 1800
"""The limit of a test with what it sets up: the first one may have to make the base image, on a busy machine."""

PREFIX = os.environ.get("KUBESTRAP_TEST_LAB", "test")
KEEP = os.environ.get("KUBESTRAP_KEEP_LABS", "") == "1"
NOT_PREPARE = (
    "certs,kubeconfig,etcd,control-plane,vip,kubelet-start,wait-control-plane,kubelet-finalize,"
    "upload-config,mark-control-plane,bootstrap-token,addon"
)
UNBROKEN = "kill"
"""The lab of the cluster that molecule makes, and then of the one that is compared with it: names are in the state."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


@contextmanager
def lab_of(
    name: str, *, machines: int, control_planes: int = 1, snapshot: str | None = None, keep: bool = KEEP
) -> Iterator[Lab]:
    """Have a lab for a while. One that a killed run left behind is taken down first."""
    full = f"{PREFIX}-{name}"
    if not keep:
        labs.down(full)
    try:
        yield labs.up(full, machines=machines, control_planes=control_planes, snapshot=snapshot)
    finally:
        if not keep:
            labs.down(full)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The snapshot of a machine that our own `prepare` prepared: about 60 s, once a session."""
    name = f"{PREFIX}-prepared"
    if KEEP and snapshots.exists(name):
        yield name
        return
    with lab_of("prepare", machines=1, keep=False) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("prepare"))
        cluster.write_inventory([cluster.master])
        cluster.kubestrap("init", "--skip-phases", NOT_PREPARE)
        labs.save(lab, cluster.master, name)
    yield name
    if not KEEP:
        snapshots.remove(name)


@pytest.fixture(scope="session")
def new_cluster(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], object]:
    """Have machines that are prepared, and no cluster on them yet."""

    @contextmanager
    def make(name: str, machines: int) -> Iterator[Cluster]:
        with lab_of(name, machines=machines, snapshot=prepared) as lab:
            cluster = Cluster(lab, tmp_path_factory.mktemp(name))
            cluster.write_inventory([machine.name for machine in lab.machines])
            yield cluster

    return make


@pytest.fixture(scope="module")
def trio(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three control planes and a worker to be: machines that are prepared, and nothing more.

    Each file has its own: three idle control planes take as much of the processors as forming them anew.
    """
    with lab_of("ha", machines=4, control_planes=3, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("ha"))
        cluster.write_inventory([machine.name for machine in lab.machines])
        yield cluster


@pytest.fixture(scope="session")
def molecule(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> scenario.Done:
    """What came of the scenario `molecule/default`, on two machines that were prepared and are gone again."""
    with lab_of(UNBROKEN, machines=2, snapshot=prepared, keep=False) as lab:
        return scenario.done(lab, tmp_path_factory.mktemp("molecule"))
