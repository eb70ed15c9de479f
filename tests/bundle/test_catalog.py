from __future__ import annotations

import pytest

from bootstrap.bundle import catalog
from bootstrap.spec import Cluster


def test_the_inventorys_default_version_is_the_one_that_is_built() -> None:
    assert Cluster().kubernetes_version == catalog.kubernetes_version()


@pytest.mark.parametrize("module", catalog.GO_MODULES, ids=lambda module: module.name)
def test_every_program_of_a_module_is_pinned_as_a_tool(module: catalog.Module) -> None:
    text = (module.folder / "go.mod").read_text()
    assert module.version
    assert all(package in text for package in module.programs.values())


def test_every_binary_and_image_comes_from_a_program_that_is_built() -> None:
    built = {(module.name, name) for module in catalog.GO_MODULES for name in module.programs}
    assert {(owner, name) for owner, name, _ in catalog.BINARIES} <= built
    in_c = {("kubernetes", "pause")}
    assert {(image.module, name) for image in catalog.IMAGES for name in image.files} <= built | in_c


def test_there_is_no_kubeadm_in_a_bundle() -> None:
    assert not any("kubeadm" in place for place in catalog.REQUIRED)


def test_the_replaced_staging_modules_are_of_the_same_version() -> None:
    kubernetes = catalog.module("kubernetes")
    minor_and_patch = kubernetes.version.partition(".")[2]
    replaced = [line for line in (kubernetes.folder / "go.mod").read_text().splitlines() if " => " in line]
    assert replaced
    assert all(line.endswith(f" v0.{minor_and_patch}") for line in replaced)
