"""F32: what is broken is named, with its own words, before time runs out. One machine, about 4 minutes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bootstrap import paths
from tests.lab.clusters import Cluster

SECONDS = 1500  # of a command here, on a busy machine

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def machine(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """A control plane that was well before anything was broken."""
    with new_cluster("diagnosis", 1) as made:
        made.write_inventory([made.master], patient)
        made.kubestrap("init", seconds=SECONDS)
        yield made


def patient(data: dict[str, Any]) -> None:
    # So that it is never by the limit that a command ends here, however busy the machine is.
    data["cluster"]["timeouts"] = {"controlPlaneComponentHealthCheck": "15m", "kubeletHealthCheck": "15m"}


def broken(machine: Cluster, change: Change, *arguments: str) -> str:
    """Give what `init` says, after `change` broke the inventory. It must give up for certain, not for time."""

    def both(data: dict[str, Any]) -> None:
        patient(data)
        change(data)

    machine.write_inventory([machine.master], both)
    ran = machine.kubestrap("init", *arguments, status=1, seconds=SECONDS)
    assert "it cannot come about" in ran.stderr, ran.stderr
    error = ran.stderr[ran.stderr.index("it cannot come about") :]
    assert len(error[: error.index("\n\n")].splitlines()) <= 30, error
    return error


def flag(data: dict[str, Any], *section: str, name: str, value: str) -> None:
    settings = data["cluster"]
    for key in section:
        settings = settings.setdefault(key, {})
    settings.setdefault("extraArgs", []).append({"name": name, "value": value})


@pytest.mark.parametrize(
    ("component", "section"),
    [
        ("kube-scheduler", ("scheduler",)),
        ("kube-controller-manager", ("controllerManager",)),
        ("kube-apiserver", ("apiServer",)),
        ("etcd", ("etcd", "local")),
    ],
)
def test_f32_a_flag_that_is_not_known_is_named(machine: Cluster, component: str, section: tuple[str, ...]) -> None:
    error = broken(machine, lambda data: flag(data, *section, name="no-such-flag", value="1"))
    assert f"{component} does not run: it exited with" in error
    assert "it does not know the flag --no-such-flag" in error
    assert re.search(r"^  .*(unknown flag: --|not defined: -)no-such-flag$", error, re.MULTILINE), "its own words"
    assert f"cluster.{'.'.join(section)}.extraArgs" in error
    assert f"The former {paths.MANIFESTS}/{component}.yaml is back, and all is well again" in error


def test_f32_a_certificate_that_is_not_its_keys_is_named(machine: Cluster) -> None:
    key = f"{paths.PKI}/front-proxy-client.key"
    error = broken(machine, lambda data: flag(data, "apiServer", name="tls-private-key-file", value=key))
    assert "kube-apiserver does not run: it exited with 1" in error
    assert "a certificate and its key do not belong together" in error
    assert re.search(r"^  .*command failed.*private key", error, re.MULTILINE), "its own words"


def test_f32_an_image_that_is_missing_is_named(machine: Cluster) -> None:
    listed = machine.on(machine.master, "ctr -n k8s.io images ls -q")
    (image,) = (line for line in listed.splitlines() if "/kube-scheduler:" in line)
    machine.on(machine.master, f"ctr -n k8s.io images rm --sync {image}")
    error = broken(
        machine, lambda data: flag(data, "scheduler", name="v", value="1"), "--skip-phases", "prepare/images"
    )
    assert f"kube-scheduler is not started, as its image {image} is not on the machine" in error
    assert "run the command without skipping prepare/images" in error


def test_f32_a_configuration_that_the_kubelet_refuses_is_told_in_its_words(machine: Cluster) -> None:
    def change(data: dict[str, Any]) -> None:
        data["cluster"]["kubelet"]["config"]["evictionHard"] = {"memory.available": "plenty"}

    error = broken(machine, change)
    journal = machine.on(machine.master, "journalctl -u kubelet -o cat --no-pager | grep 'command failed'")
    guilty = journal.splitlines()[-1].partition("command failed")[2]
    assert "the kubelet does not run: it exited with 1" in error
    assert guilty[:100] in error
    assert "cluster.kubelet.config" in error


def test_f16_f32_a_containerd_without_its_cri_plug_in_is_named(machine: Cluster) -> None:
    def change(data: dict[str, Any]) -> None:
        data["cluster"]["containerd"]["config"]["disabled_plugins"] = ["io.containerd.grpc.v1.cri"]

    error = broken(machine, change)
    guilty = machine.on(machine.master, f"grep disabled_plugins {paths.CONTAINERD_CONFIG}").strip()
    assert "containerd runs without its CRI plug-in" in error
    assert guilty in error


def test_f32_once_all_is_mended_the_next_run_brings_it_up(machine: Cluster) -> None:
    machine.write_inventory([machine.master], patient)
    machine.kubestrap("init", seconds=SECONDS)
    machine.wait_ready([machine.master])
