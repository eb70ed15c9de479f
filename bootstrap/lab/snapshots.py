"""Snapshots: machines that were prepared once and are started many times.

A snapshot is an image of a machine's own files and a copy of each of its volumes. Copies share, by hard links, what
containerd never writes to again (blobs and unpacked images), so that cloning takes no time and no space. Whoever
damages such a file in place, on one machine, damages it on all; deleting or replacing it is harmless.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bootstrap.errors import UsageError
from bootstrap.lab import image, machines
from bootstrap.lab.calls import call, podman

REPOSITORY = "localhost/kubestrap-lab-snapshot"
SHARED = ("io.containerd.content.v1.content/blobs", "io.containerd.snapshotter.v1.overlayfs/snapshots")


def reference(snapshot: str) -> str:
    """Give the name of a snapshot's image."""
    return f"{REPOSITORY}:{snapshot}"


def names() -> list[str]:
    """List the snapshots there are."""
    answer = podman("images", "--filter", f"reference={REPOSITORY}", "--format", "{{.Tag}}")
    return sorted(answer.stdout.split())


def exists(snapshot: str) -> bool:
    """Say whether there is a snapshot of this name, whole."""
    return image.exists(reference(snapshot))


def require(snapshot: str) -> str:
    """Give the name of the snapshot's image. Raises `UsageError` where there is no such snapshot."""
    if not exists(snapshot):
        raise UsageError(f"there is no snapshot {snapshot}; there are: {', '.join(names()) or 'none'}")
    return reference(snapshot)


def save(lab: str, machine: str, snapshot: str) -> None:
    """Make a snapshot of a machine that is stopped. One of that name is replaced."""
    remove(snapshot)
    for kind in machines.VOLUMES:
        podman("volume", "create", _volume(snapshot, kind))
        copy(_mountpoint(machines.volume(lab, machine, kind)), _mountpoint(_volume(snapshot, kind)))
    # The image comes last: with it the snapshot is whole.
    podman("commit", "--quiet", machines.container(lab, machine), reference(snapshot), seconds=600)


def fill(lab: str, machine: str, snapshot: str) -> None:
    """Make the volumes of a new machine from a snapshot."""
    for kind in machines.VOLUMES:
        podman("volume", "create", machines.volume(lab, machine, kind))
        copy(_mountpoint(_volume(snapshot, kind)), _mountpoint(machines.volume(lab, machine, kind)))


def remove(snapshot: str) -> None:
    """Take away a snapshot, also one that is not whole. Machines started from it stay."""
    if exists(snapshot):
        podman("rmi", "--force", reference(snapshot))
    mine = {_volume(snapshot, kind) for kind in machines.VOLUMES}
    machines.remove_volumes(mine.intersection(podman("volume", "ls", "--quiet").stdout.split()))


def copy(source: Path, target: Path) -> None:
    """Copy a folder's contents into the empty folder `target`; files below `SHARED` become hard links."""
    call("cp", "--archive", "--link", f"{source}/.", f"{target}/", seconds=600)
    shared = {target / part for part in SHARED}
    for folder, folders, files in os.walk(target):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name not in shared]
        for name in files:
            linked = here / name
            if linked.is_file() and not linked.is_symlink():
                owner = linked.stat()
                beside = here / f".{name}.copy"
                shutil.copy2(linked, beside)
                os.chown(beside, owner.st_uid, owner.st_gid)
                beside.chmod(owner.st_mode & 0o7777)
                beside.replace(linked)


def _volume(snapshot: str, kind: str) -> str:
    return f"kubestrap-snapshot-{snapshot}-{kind}"


def _mountpoint(volume: str) -> Path:
    answer = podman("volume", "inspect", volume)
    return Path(json.loads(answer.stdout)[0]["Mountpoint"])
