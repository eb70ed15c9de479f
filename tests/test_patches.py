"""Folders of patches as an inventory names them: read with it, and tried before any machine is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import cli
from bootstrap.inventory import InventoryError, dump, load
from bootstrap.spec import Inventory
from bootstrap.trial import require_fitting

HEAD = """apiVersion: kubestrap.io/v1alpha1
kind: Inventory
cluster:
  patches: all
hosts:
  - {name: cp1, address: 192.0.2.10, roles: [control-plane]}
"""
WORKER = "  - {name: worker1, address: 192.0.2.11, roles: [worker], patches: own}\n"


def described(folder: Path, text: str = HEAD, **files: str) -> Path:
    """Write an inventory, and patches named FOLDER__TARGET__SUFFIX_AND_TYPE, with _ for -."""
    for name, contents in files.items():
        where, target, more = [*name.split("__"), ""][:3]
        place = folder / where
        place.mkdir(exist_ok=True)
        (place / f"{target.replace('_', '-')}{more and '+'}{more}.yaml").write_text(contents)
    path = folder / "inventory.yaml"
    path.write_text(text)
    return path


def told(path: Path) -> list[str]:
    with pytest.raises(InventoryError) as refused:
        require_fitting(load(path))
    return [str(problem).replace(f"{path.parent}/", "") for problem in refused.value.problems]


def targets(inventory: Inventory) -> list[list[str]]:
    folders = [inventory.cluster.patches, *(host.patches for host in inventory.hosts)]
    return [[patch.target for patch in folder.all] if folder else [] for folder in folders]


def test_folders_are_taken_from_the_inventorys_folder_and_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = described(
        tmp_path,
        HEAD + WORKER,
        all__kube_scheduler="metadata: {}\n---\nspec: {}\n",
        all__etcd__merge="metadata: {}\n",
        own__kubeletconfiguration="maxPods: 20\n",
    )
    inventory = load(path)
    assert targets(inventory) == [["etcd", "kube-scheduler", "kube-scheduler"], [], ["kubeletconfiguration"]]
    (tmp_path / "elsewhere.yaml").write_text(dump(inventory))
    assert load(tmp_path / "elsewhere.yaml") == inventory
    require_fitting(inventory)


def test_misfits_of_all_hosts_are_told_at_once_and_those_of_several_once(tmp_path: Path) -> None:
    path = described(
        tmp_path,
        HEAD + WORKER,
        all__kube_scheduler__json="- {op: remove, path: /spec/nothing}\n",
        all__kubeletconfiguration="maxPods: 20\nstaticPodPath: /srv\n",
        all__corednsdeployment="metadata: {namespace: default}\n",
        own__kubeletconfiguration__json="- {op: replace, path: /nothing, value: 1}\n",
    )
    assert [text.removesuffix(" [inventory-bad-patch]") for text in told(path)] == [
        "all/kube-scheduler+json.yaml:1:16: there is no /spec/nothing",
        "all/kubeletconfiguration.yaml:2:1: it changes staticPodPath: manifests are written there",
        "all/corednsdeployment.yaml:1:12: it changes metadata.namespace: it would be another object",
        "own/kubeletconfiguration+json.yaml:1:17: there is no /nothing",
    ]


def test_what_only_machines_tell_is_left_for_later(tmp_path: Path) -> None:
    mine = """- {op: test, path: /metadata/labels/tier, value: other}
"""
    entry = "- {op: remove, path: /spec/volumes/7}\n"
    require_fitting(load(described(tmp_path, all__kube_apiserver__json=entry, all__etcd__json=mine)))


@pytest.mark.parametrize("command", [["config", "validate"], ["plan", "init"], ["init"], ["join"], ["diff", "join"]])
def test_no_command_begins_with_a_patch_that_does_not_fit(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    described(tmp_path, all__etcd="metadata: {name: other}\n")
    monkeypatch.chdir(tmp_path)
    assert cli.run(command) == 3
    assert "all/etcd.yaml:1:12: it changes metadata.name" in capsys.readouterr().err


def test_the_plan_of_hosts_with_patches_of_their_own_is_shown_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = "  - {name: worker2, address: 192.0.2.12, roles: [worker]}\n"
    described(tmp_path, HEAD + WORKER + plain, all__etcd="spec: {}\n", own__kubeletconfiguration="maxPods: 20\n")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["plan", "join"]) == 0
    shown = capsys.readouterr().out
    assert "worker1:\n" in shown
    assert "worker2:\n" in shown


def test_mistakes_in_a_patch_stand_beside_those_of_the_inventory(tmp_path: Path) -> None:
    text = HEAD.replace("  patches: all\n", "  patches: all\n  certificateValidityPeriod: 99999h\n")
    path = described(tmp_path, text, all__etcd="- a list\n")
    with pytest.raises(InventoryError) as refused:
        load(path)
    assert {problem.id for problem in refused.value.problems} == {"inventory-bad-patch", "inventory-validity"}


def test_a_folder_in_a_folder_of_patches_is_refused(tmp_path: Path) -> None:
    path = described(tmp_path, all__etcd="spec: {}\n")
    (tmp_path / "all" / "more").mkdir()
    (only,) = told(path)
    assert only.startswith("inventory.yaml:4:12: all/more is a folder in a folder of patches; what is in it would be")


def test_kubeadms_own_configuration_names_a_hosts_patches(tmp_path: Path) -> None:
    kubeadm = "{apiVersion: kubeadm.k8s.io/v1beta4, kind: InitConfiguration, patches: {directory: all}}"
    text = HEAD.replace("  patches: all\n", f"  kubeadm: [{kubeadm}]\n")
    assert targets(load(described(tmp_path, text, all__etcd="spec: {}\n"))) == [[], ["etcd"]]
