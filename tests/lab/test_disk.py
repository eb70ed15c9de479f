"""F11: disks that are full in the middle of a run. One machine, about 75 s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.lab.clusters import Cluster

ETCD = "/var/lib/etcd"


@pytest.fixture(scope="module")
def machine(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """A machine that is prepared."""
    with new_cluster("disk", 1) as made:
        yield made


def small(machine: Cluster, folder: str, size: str) -> None:
    """Put a small file system at a folder."""
    machine.on("cp1", f"mkdir -p {folder} && mount -t tmpfs -o size={size},mode=700 tmpfs {folder}")


def grow(machine: Cluster, folder: str) -> None:
    """Make room on it."""
    machine.on("cp1", f"mount -o remount,size=3g {folder}")


def test_f11_no_room_for_an_image_is_told_with_its_mount(machine: Cluster) -> None:
    images = "/var/lib/containerd"
    machine.on("cp1", "systemctl stop containerd")
    small(machine, images, "60m")
    machine.on("cp1", "systemctl start containerd")
    said = machine.kubestrap("init", "--ignore-preflight-errors", "DiskSpace", status=1).stderr
    machine.on("cp1", f"systemctl stop containerd && umount {images}")
    assert "phase prepare/images: image " in said
    assert f"No space is left on {images} (" in said
    assert "level=warning" not in said


def test_f11_no_room_for_a_file_is_told_with_its_mount_and_files_stay_whole(machine: Cluster) -> None:
    small(machine, "/etc/kubernetes", "24k")
    said = machine.kubestrap("init", status=1).stderr
    assert "cannot be written: " in said
    assert "No space is left on /etc/kubernetes (0 of 0 MiB are free)" in said
    written = "find /etc/kubernetes -type f | sort | xargs cksum"
    before = machine.on("cp1", written).splitlines()
    assert before
    assert not [line for line in before if ".kubestrap." in line]

    grow(machine, "/etc/kubernetes")
    small(machine, ETCD, "32m")
    assert f"32 MiB are free on {ETCD}" in machine.kubestrap("init", status=4).stderr
    said = machine.kubestrap("init", "--ignore-preflight-errors", "DiskSpace", status=1).stderr
    assert "etcd does not run" in said
    assert "a disk is full" in said
    assert f"MiB are left on the disk of {ETCD} (" in said

    grow(machine, ETCD)
    machine.kubestrap("init")
    machine.wait_ready(["cp1"])
    assert set(before) <= set(machine.on("cp1", written).splitlines())
