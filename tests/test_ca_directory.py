"""The keys of the CAs with the operator alone: where they come from, and what the machines get instead."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from bootstrap import ca_directory, kubeconfig, paths, pki, plan
from bootstrap.errors import PkiRefused
from bootstrap.phases import INIT, JOIN
from bootstrap.site import Facts, Node
from bootstrap.spec import Cluster, Host
from bootstrap.steps import Absent, File, Link, Step
from tests import builders

NOW = datetime.datetime(2026, 5, 17, 12, 0, tzinfo=datetime.UTC)
FOLDER = "/home/operator/ca"
CLUSTER = Cluster.model_validate({"certificateAuthority": {"kind": "operator", "directory": FOLDER}})
KEYS = [f"{paths.PKI}/{name}.key" for name in ("ca", "front-proxy-ca", "etcd/ca")]
CA = f"{paths.PKI}/ca.crt"

Files = Mapping[str, bytes]


def node(name: str = "cp1", files: Files | None = None, role: str = "control-plane") -> Node:
    host = Host.model_validate({"name": name, "address": "192.0.2.11", "roles": [role]})
    return Node(host, "192.0.2.11", Facts(files=files or {}))


def made(*nodes: Node, kept: Files, now: datetime.datetime = NOW, cluster: Cluster = CLUSTER) -> Mapping[str, Files]:
    return kubeconfig.site_files(cluster, nodes or [node()], now, kept=kept)


@pytest.fixture(scope="module")
def kept() -> Files:
    return pki.operators(CLUSTER, [node()], NOW, {})


def test_new_cas_are_the_operators_and_machines_get_leaves_that_they_signed(kept: Files) -> None:
    assert [path for path in kept if path.endswith(".key")] == KEYS
    assert list(kept).index(KEYS[0]) < list(kept).index(CA)
    files = made(node(), node("cp2"), kept=kept)
    assert sorted(files) == ["cp1", "cp2"]
    for held in files.values():
        assert not set(KEYS) & set(held)
        assert held[CA] == kept[CA]
        assert f"{paths.PKI}/sa.key" in held
        leaf, ca = pki.read_certificate(held[f"{paths.PKI}/apiserver.crt"]), pki.read_certificate(kept[CA])
        assert leaf is not None
        assert ca is not None
        assert pki.signed_by(leaf, ca)


def test_a_second_run_finds_everything_right(kept: Files) -> None:
    first = made(kept=kept)["cp1"]
    assert pki.operators(CLUSTER, [node(files=first)], NOW, kept) == kept
    assert made(node(files=first), kept=kept)["cp1"] == first


def test_keys_that_machines_hold_become_the_operators() -> None:
    with_keys = kubeconfig.site_files(Cluster(), [node()], NOW)["cp1"]
    taken = pki.operators(CLUSTER, [node(files=with_keys)], NOW, {})
    assert {path: taken[path] for path in KEYS} == {path: with_keys[path] for path in KEYS}
    left = made(node(files=with_keys), kept=taken)["cp1"]
    assert not set(KEYS) & set(left)
    assert left[f"{paths.PKI}/apiserver.crt"] == with_keys[f"{paths.PKI}/apiserver.crt"]


def test_a_key_alone_is_completed(kept: Files) -> None:
    again = pki.operators(CLUSTER, [node()], NOW, {KEYS[0]: kept[KEYS[0]]})
    assert again[KEYS[0]] == kept[KEYS[0]]
    certificate, key = pki.read_certificate(again[CA]), pki.read_key(kept[KEYS[0]])
    assert certificate is not None
    assert key is not None
    assert pki.matches(key, certificate)


def test_the_folder_of_another_cluster_is_refused_by_its_name(kept: Files) -> None:
    held = made(kept=kept)["cp1"]
    other = pki.operators(CLUSTER, [node()], NOW, {})
    with pytest.raises(PkiRefused) as refused:
        pki.operators(CLUSTER, [node(files=held)], NOW, other)
    assert {problem.host for problem in refused.value.problems} == {FOLDER}


def test_without_the_folder_what_is_good_stays_and_nothing_is_signed(kept: Files) -> None:
    held = made(kept=kept)["cp1"]
    there = pki.operators(CLUSTER, [node(files=held)], NOW, {})
    assert not set(KEYS) & set(there)
    assert made(node(files=held), kept=there)["cp1"] == held
    lacking = {path: data for path, data in held.items() if path != f"{paths.PKI}/apiserver.crt"}
    with pytest.raises(PkiRefused, match=f"{FOLDER} does not hold ca.key"):
        made(node(files=lacking), kept=there)


def issued(files: Files) -> x509.Certificate:
    certificate = pki.read_certificate(files[paths.KUBELET_CLIENT_ISSUED])
    assert certificate is not None
    return certificate


def test_kubelets_get_certificates_for_their_nodes_and_kubeconfigs_that_point_there(kept: Files) -> None:
    worker = node("w1", role="worker")
    files = kubeconfig.kubelet_files(CLUSTER, [worker], kept[CA], kept, NOW)["w1"]
    name = issued(files).subject.rfc4514_string()
    assert name == "CN=system:node:w1,O=system:nodes"
    key = pki.read_key(files[paths.KUBELET_CLIENT_ISSUED])
    assert key is not None
    assert pki.matches(key, issued(files))
    conf = yaml.safe_load(files[paths.KUBELET_CONF])
    assert conf["users"][0]["user"] == {
        "client-certificate": paths.KUBELET_CLIENT_CERT,
        "client-key": paths.KUBELET_CLIENT_CERT,
    }
    assert conf["clusters"][0]["cluster"]["server"] == kubeconfig.endpoint(CLUSTER)
    own = yaml.safe_load(made(kept=kept)["cp1"][paths.KUBELET_CONF])
    assert own["clusters"][0]["cluster"]["server"] == "https://192.0.2.11:6443"


@pytest.mark.parametrize(("days", "renewed"), [(334, False), (336, True), (400, True)])
def test_kubelets_certificates_are_issued_anew_a_month_before_their_end(kept: Files, days: int, renewed: bool) -> None:
    first = kubeconfig.kubelet_files(CLUSTER, [node("w1", role="worker")], kept[CA], kept, NOW)["w1"]
    later = NOW + datetime.timedelta(days=days)
    again = kubeconfig.kubelet_files(CLUSTER, [node("w1", first, role="worker")], kept[CA], kept, later)["w1"]
    assert (again != first) is renewed
    held = made(kept=kept)["cp1"]
    if days < 365:  # all others are issued anew when they have expired
        changed = {
            path for path, data in made(node(files=held), kept=kept, now=later)["cp1"].items() if data != held[path]
        }
        assert changed == ({paths.KUBELET_CLIENT_ISSUED} if renewed else set())


def test_short_lived_certificates_are_not_issued_anew_at_once(kept: Files) -> None:
    cluster = CLUSTER.model_copy(update={"certificate_validity_period": "24h"})
    first = kubeconfig.kubelet_files(cluster, [node("w1", role="worker")], kept[CA], kept, NOW)["w1"]
    for hours, same in ((15, True), (17, False)):
        later = NOW + datetime.timedelta(hours=hours)
        held = node("w1", first, role="worker")
        assert (kubeconfig.kubelet_files(cluster, [held], kept[CA], kept, later)["w1"] == first) is same


def test_workers_are_not_joined_where_the_key_is_not_the_clusters(kept: Files) -> None:
    other = pki.operators(CLUSTER, [node()], NOW, {})
    for files in ({}, other):
        with pytest.raises(PkiRefused, match="w1"):
            kubeconfig.kubelet_files(CLUSTER, [node("w1", role="worker")], kept[CA], files, NOW)


def test_the_folder_is_the_operators_alone_and_gives_back_what_was_put_there(tmp_path: Path, kept: Files) -> None:
    folder = tmp_path / "new" / "ca"
    authority = {"kind": "operator", "directory": str(folder)}
    cluster = Cluster.model_validate({"certificateAuthority": authority})
    assert ca_directory.read(cluster) == {}
    ca_directory.write(cluster, kept)
    assert ca_directory.read(cluster) == kept
    assert {path.relative_to(folder).as_posix(): f"{path.stat().st_mode & 0o777:o}" for path in folder.rglob("*")} == {
        "ca.crt": "600",
        "ca.key": "600",
        "etcd": "700",
        "etcd/ca.crt": "600",
        "etcd/ca.key": "600",
        "front-proxy-ca.crt": "600",
        "front-proxy-ca.key": "600",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "ca.key").chmod(0o644)
    ca_directory.write(cluster, kept)
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_read_where_machines_hold_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.key").write_bytes(b"a key of something else")
    assert ca_directory.read(Cluster()) == {}


def steps(workflow: tuple[plan.Phase, ...]) -> dict[str, list[Step]]:
    described = builders.site(cluster={"certificateAuthority": {"kind": "operator", "directory": FOLDER}})
    own = {paths.KUBELET_CLIENT_ISSUED: b"issued", paths.KUBELET_CONF: b"conf"}
    files = {name: {**described.files.get(name, {}), **own} for name in ("master", "worker")}
    described = replace(described, files=files)
    found: dict[str, list[Step]] = {}
    nodes = [node for node in described.nodes if node.host.is_control_plane == (workflow is INIT)]
    for task in plan.build(workflow, described, nodes=nodes).tasks:
        found.setdefault(task.phase.name, []).extend(task.steps)
    return found


def test_machines_are_left_without_the_keys_of_the_cas() -> None:
    found = steps(INIT)
    everything = [step for each in found.values() for step in each]
    absent = [step.path for step in everything if isinstance(step, Absent)]
    assert [path for path in absent if path.startswith(f"{paths.PKI}/")][:3] == KEYS
    assert not [step for step in everything if isinstance(step, File) and step.path in KEYS]
    (manifest,) = (step for step in found["control-plane/controller-manager"] if isinstance(step, File))
    command = yaml.safe_load(manifest.data)["spec"]["containers"][0]["command"]
    assert "--cluster-signing-key-file=" in command


@pytest.mark.parametrize(("workflow", "phase"), [(INIT, "kubeconfig/kubelet"), (JOIN, "kubelet-start")])
def test_kubelets_find_their_certificates_where_they_would_keep_their_own(
    workflow: tuple[plan.Phase, ...], phase: str
) -> None:
    found = steps(workflow)
    written = [step for step in found[phase] if isinstance(step, File | Link) and not step.path.endswith("ca.crt")]
    issued_file, link, conf = written[:3]
    assert isinstance(issued_file, File)
    assert (issued_file.path, issued_file.mode, issued_file.secret) == (paths.KUBELET_CLIENT_ISSUED, 0o600, True)
    assert link == Link(paths.KUBELET_CLIENT_CERT, paths.KUBELET_CLIENT_ISSUED)
    assert isinstance(conf, File)
    assert conf.path == paths.KUBELET_CONF
    configs = [step for step in found["kubelet-start"] if isinstance(step, File) and step.path == paths.KUBELET_CONFIG]
    assert [yaml.safe_load(step.data).get("rotateCertificates") for step in configs] == [False]
    assert not [step for step in found["kubelet-start"] if getattr(step, "path", "") == paths.BOOTSTRAP_KUBELET_CONF]
