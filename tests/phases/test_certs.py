from __future__ import annotations

import pytest

from bootstrap import paths
from bootstrap.phases import INIT, certs
from bootstrap.plan import build
from bootstrap.site import Site
from bootstrap.steps import File
from tests.builders import KUBECONFIGS, PKI_FILES, site


def written(described: Site) -> list[str]:
    plan = build(INIT, described, nodes=described.control_plane)
    return [
        step.path
        for task in plan.tasks
        if task.phase.name.startswith(("certs/", "kubeconfig/"))
        for step in task.steps
        if isinstance(step, File)
    ]


def test_every_file_of_the_pki_and_every_kubeconfig_is_written_once() -> None:
    assert sorted(written(site())) == sorted([*PKI_FILES, *KUBECONFIGS])


def test_files_are_those_of_the_site() -> None:
    described = site()
    plan = build(INIT, described, nodes=described.control_plane)
    for task in plan.tasks:
        if task.phase.name.startswith(("certs/", "kubeconfig/")):
            for step in task.steps:
                if isinstance(step, File):
                    assert step.data == described.files["master"][step.path]


def without(described: Site, path: str) -> Site:
    files = {name: data for name, data in described.files["master"].items() if name != path}
    return Site(described.cluster, described.nodes, described.contents, {"master": files})


@pytest.mark.parametrize("name", ["ca", "front-proxy-ca", "etcd/ca"])
def test_the_key_of_a_ca_may_be_kept_elsewhere(name: str) -> None:
    key = f"{paths.PKI}/{name}.key"
    assert key not in written(without(site(), key))


@pytest.mark.parametrize("name", ["ca.crt", "apiserver.key", "etcd/peer.crt", "sa.key"])
def test_nothing_else_may_be_missing(name: str) -> None:
    with pytest.raises(KeyError):
        written(without(site(), f"{paths.PKI}/{name}"))


def test_phases_have_kubeadms_names() -> None:
    assert [phase.name.removeprefix("certs/") for phase in certs.CERTS] == [
        "ca",
        "apiserver",
        "apiserver-kubelet-client",
        "front-proxy-ca",
        "front-proxy-client",
        "etcd-ca",
        "etcd-server",
        "etcd-peer",
        "etcd-healthcheck-client",
        "apiserver-etcd-client",
        "sa",
    ]


def test_a_key_is_in_place_before_its_certificate() -> None:
    # A run that is killed between the two then leaves nothing that looks like a CA kept elsewhere.
    paths_written = written(site())
    for path in paths_written:
        if path.endswith(".crt"):
            assert paths_written.index(path.removesuffix("crt") + "key") < paths_written.index(path)
