from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args

import pytest

from bootstrap.errors import NotSupported
from bootstrap.inventory import InventoryError, Problem, dump, load, require_supported
from bootstrap.spec import Inventory, effective_ssh
from bootstrap.values import ProblemId

GOLDEN = Path(__file__).parent / "golden" / "inventory"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))
HEAD = "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
EXTERNAL_ETCD = "{endpoints: ['https://etcd1:2379'], caFile: a, certFile: b, keyFile: c}"
ONE = f"{HEAD}hosts:\n  - {{name: node1, address: 192.0.2.10, roles: [control-plane, worker]}}\n"


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as refused:
        load(path)
    return refused.value.problems


def read(folder: Path, text: str) -> Inventory:
    path = folder / "inventory.yaml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_told_in_these_words(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    found = problems(Path(f"{case}.yaml"))
    told = "".join(f"{problem}\n" for problem in found)
    golden = GOLDEN / f"{case}.txt"
    if os.environ.get("KUBESTRAP_UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()


@pytest.mark.parametrize("case", [case for case in CASES if case != "many"])
def test_a_golden_file_shows_the_mistake_it_is_named_for_and_no_other(case: str) -> None:
    kind = case.partition("--")[0]
    assert {problem.id for problem in problems(GOLDEN / f"{case}.yaml")} == {f"inventory-{kind}"}


def test_every_kind_of_mistake_has_a_golden_file() -> None:
    shown = {f"inventory-{case.partition('--')[0]}" for case in CASES}
    assert set(get_args(ProblemId)) - shown == {"inventory-unreadable"}


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    (only,) = problems(tmp_path / "inventory.yaml")
    assert only.id == "inventory-unreadable"
    assert "inventory.example.yaml" in str(only)


def test_a_directory_is_told_as_unreadable(tmp_path: Path) -> None:
    assert [problem.id for problem in problems(tmp_path)] == ["inventory-unreadable"]


def test_the_smallest_inventory_gets_every_default(tmp_path: Path) -> None:
    inventory = read(tmp_path, ONE)
    assert inventory.cluster.control_plane_endpoint == "api.kubernetes.cluster.local:6443"
    assert inventory.cluster.networking.service_address(10) == "10.96.0.10"
    assert inventory.hosts[0].registration_taints == ()


def test_a_host_that_is_only_a_control_plane_has_kubeadms_taint(tmp_path: Path) -> None:
    inventory = read(tmp_path, ONE.replace(", worker", ""))
    assert [str(taint) for taint in inventory.hosts[0].registration_taints] == [
        "node-role.kubernetes.io/control-plane=:NoSchedule"
    ]


def test_relative_files_are_taken_from_the_inventorys_folder(tmp_path: Path) -> None:
    text = f"{HEAD}ssh: {{identityFile: keys/id}}\n{ONE.removeprefix(HEAD)}    ssh: {{knownHostsFile: known}}\n"
    inventory = read(
        tmp_path,
        text.replace(
            "- {name: node1, address: 192.0.2.10, roles: [control-plane, worker]}",
            "- name: node1\n    address: 192.0.2.10\n    roles: [control-plane, worker]",
        ),
    )
    assert inventory.ssh.identity_file == str(tmp_path / "keys/id")
    assert inventory.hosts[0].ssh.known_hosts_file == str(tmp_path / "known")


def test_a_hosts_own_ssh_settings_win(tmp_path: Path) -> None:
    text = f"{HEAD}ssh: {{user: debian, port: 2222}}\n{ONE.removeprefix(HEAD)}".replace(
        "worker]", "worker], ssh: {port: 22}"
    )
    inventory = read(tmp_path, text)
    login = effective_ssh(inventory, inventory.hosts[0])
    assert (login.user, login.port, login.connect_timeout) == ("debian", 22, "10s")


def test_one_address_with_different_ports_is_different_machines(tmp_path: Path) -> None:
    other = "  - {name: node2, address: 192.0.2.10, roles: [worker], ssh: {port: 2222}}\n"
    assert len(read(tmp_path, ONE + other).hosts) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{ONE}cluster: {{networking: {{podSubnet: 'fd00:1::/56', serviceSubnet: 'fd00:2::/112'}}}}\n", "IPv6"),
    ],
)
def test_what_the_schema_has_but_this_version_cannot_build_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(NotSupported) as refused:
        require_supported(read(tmp_path, text))
    assert refused.value.exit_code == 12
    assert told in str(refused.value)


def test_what_can_be_built_is_not_refused(tmp_path: Path) -> None:
    require_supported(read(tmp_path, ONE))
    more = [f"  - {{name: cp{i}, address: 192.0.2.2{i}, roles: [control-plane]}}\n" for i in (1, 2)]
    require_supported(read(tmp_path, ONE + "".join(more)))
    require_supported(read(tmp_path, f"{ONE}  - {{name: node2, address: 192.0.2.11, roles: [etcd]}}\n"))
    require_supported(read(tmp_path, f"{ONE}cluster: {{etcd: {{external: {EXTERNAL_ETCD}}}}}\n"))


def test_etcd_runs_where_the_inventory_has_it(tmp_path: Path) -> None:
    more = [f"  - {{name: cp{i}, address: 192.0.2.2{i}, roles: [control-plane]}}\n" for i in (1, 2)]
    stacked = read(tmp_path, ONE + "".join(more))
    assert stacked.is_stacked
    assert stacked.etcd_members == stacked.control_plane
    own = read(tmp_path, f"{ONE}  - {{name: node2, address: 192.0.2.11, roles: [etcd]}}\n")
    assert not own.is_stacked
    assert [host.name for host in own.etcd_members] == ["node2"]
    assert [host.name for host in own.nodes] == [host.name for host in own.control_plane]
    assert own.formed == own.hosts
    external = read(tmp_path, f"{ONE}cluster: {{etcd: {{external: {EXTERNAL_ETCD}}}}}\n")
    assert not external.is_stacked
    assert external.etcd_members == ()


def test_the_example_in_the_checkout_is_valid_and_can_be_built() -> None:
    inventory = load(Path(__file__).parent.parent / "inventory.example.yaml")
    require_supported(inventory)
    assert len(inventory.hosts) == 3


def test_f16_cgroup_drivers_that_differ_are_refused_with_the_line(tmp_path: Path) -> None:
    text = f"{ONE}cluster: {{kubelet: {{config: {{cgroupDriver: cgroupfs}}}}}}\n"
    path = tmp_path / "inventory.yaml"
    path.write_text(text)
    (only,) = problems(path)
    assert (only.id, only.line, only.path) == (
        "inventory-cgroup-driver",
        text.count("\n"),
        "cluster.kubelet.config.cgroupDriver",
    )
    options = "{runc: {options: {SystemdCgroup: false}}}"
    plugins = f"{{io.containerd.cri.v1.runtime: {{containerd: {{runtimes: {options}}}}}}}"
    assert read(tmp_path, f"{text[:-2]}, containerd: {{config: {{plugins: {plugins}}}}}}}\n")


def test_logins_of_registries_are_read_and_never_written(tmp_path: Path) -> None:
    login = {"username": "me", "password": "pass-word"}
    told = {"auths": {"https://index.docker.io/v1/": login, "https://registry.example.com:5000": login}}
    (tmp_path / "logins.json").write_text(json.dumps(told))
    inventory = read(tmp_path, ONE + "cluster: {registries: {authFile: logins.json}}\n")
    logins = inventory.cluster.registries.auth_file
    assert logins is not None
    assert logins.headers == dict.fromkeys(("docker.io", "registry.example.com:5000"), "Basic bWU6cGFzcy13b3Jk")
    assert f"authFile: {tmp_path}/logins.json" in dump(inventory)
    assert "bWU6cGFzcy13b3Jk" not in dump(inventory) + repr(inventory)
    (tmp_path / "written.yaml").write_text(dump(inventory))
    assert load(tmp_path / "written.yaml") == inventory
