"""A lab's folder on the host: its key, its known_hosts, its inventory, and what it was asked to be."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import yaml

from bootstrap.errors import LabError, UsageError
from bootstrap.lab import locks
from bootstrap.lab.machines import Machine

LONGEST_NAME = 30
MOST_CONTROL_PLANES = 9
MOST_WORKERS = 100
_NAME = re.compile(r"[a-z](-?[a-z0-9])*")
_LOCK_SECONDS = 1800  # a run that holds the lock may be making the base image

CONFIGURATION: Mapping[str, Any] = {
    # A container has the host's cgroups, which may be of version 1, and its swap, which is not ours to turn off.
    "kubelet": {"config": {"failCgroupV1": False, "failSwapOn": False}},
    # 0: leave the host's sysctls for connection tracking alone.
    "kubeProxy": {"config": {"conntrack": {"maxPerCore": 0, "min": 0}}},
    # Root in a container may have no CAP_SYS_RESOURCE, and cannot load AppArmor profiles.
    "containerd": {
        "config": {
            "plugins": {
                "io.containerd.cri.v1.runtime": {"restrict_oom_score_adj": True, "disable_apparmor": True},
            }
        }
    },
    "ignorePreflightErrors": ["CgroupV1"],
}
"""What clusters on such machines need, said with settings that any inventory may have."""


@dataclass(frozen=True, slots=True)
class Design:
    """What a lab was asked to be."""

    control_planes: int
    workers: int
    snapshot: str | None = None


def root() -> Path:
    """Give the folder that holds all labs' folders."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return base / "kubestrap/labs"


def folder(lab: str) -> Path:
    """Give the lab's folder."""
    return root() / lab


def labs() -> list[str]:
    """Name the labs that have a folder."""
    return [path.name for path in root().iterdir() if _NAME.fullmatch(path.name)] if root().is_dir() else []


def check_name(name: str, what: str = "lab") -> None:
    """Raise `UsageError` for a name that a lab (or `what` else) cannot have."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{name!r} cannot be the name of a {what}: containers, host names and the cluster are named after it; "
            f"use at most {LONGEST_NAME} lower-case letters, digits and hyphens, a letter first"
        )


@contextlib.contextmanager
def claimed(lab: str) -> Iterator[Path]:
    """Give the lab's folder, made where it was missing, while no other run works on the lab."""
    path = folder(lab)
    while True:
        with contextlib.suppress(FileNotFoundError):  # another run's `down` takes away folders that are empty
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locks.locked(path, f"working on the lab {lab}", seconds=_LOCK_SECONDS) as descriptor:
                if path.is_dir() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                    yield path
                    return


def remove(path: Path) -> None:
    """Take away a lab's folder, and the folders above it that were made for labs and are empty now."""
    shutil.rmtree(path)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
        path.parent.parent.rmdir()


def design(path: Path) -> Design | None:
    """Read what the lab in `path` was asked to be; None for a new one."""
    try:
        return Design(**json.loads((path / "lab.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LabError(f"{path / 'lab.json'} cannot be read ({error}); take the lab down and up again") from error


def keep_design(path: Path, wanted: Design) -> None:
    """Write down what the lab in `path` is asked to be."""
    write(path / "lab.json", json.dumps(asdict(wanted)) + "\n")


def public_key(path: Path) -> str:
    """Give the public half of the lab's own key, in OpenSSH's form; draw the key where there is none yet."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    file = path / "id_ed25519"
    if file.exists():
        key = serialization.load_ssh_private_key(file.read_bytes(), password=None)
    else:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        write(file, private.decode())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} kubestrap-lab-{path.name}"


def layout(wanted: Design, subnet: IPv4Network) -> tuple[Machine, ...]:
    """List the machines of a lab. One that grows later keeps their names and addresses.

    A single machine has both roles. Logins are to root, but to `ops`, who has sudo, on the first worker.
    """
    alone = wanted.control_planes + wanted.workers == 1
    masters = [
        Machine(
            f"cp{number}",
            str(subnet[10 + number]),
            ("control-plane", "worker") if alone else ("control-plane",),
            "root",
        )
        for number in range(1, wanted.control_planes + 1)
    ]
    workers = [
        Machine(f"worker{number}", str(subnet[100 + number]), ("worker",), "ops" if number == 1 else "root")
        for number in range(1, wanted.workers + 1)
    ]
    return (*masters, *workers)


def inventory_text(lab: str, machines: Sequence[Machine], path: Path) -> str:
    """Write the inventory of a cluster on the lab's machines."""
    content = {
        "apiVersion": "kubestrap.io/v1alpha1",
        "kind": "Inventory",
        "cluster": {"name": lab, **CONFIGURATION},
        "ssh": {
            "user": "root",
            "identityFile": str(path / "id_ed25519"),
            "knownHostsFile": str(path / "known_hosts"),
        },
        "hosts": [
            {
                "name": machine.name,
                "address": machine.address,
                "roles": list(machine.roles),
                **({} if machine.user == "root" else {"ssh": {"user": machine.user}}),
            }
            for machine in machines
        ],
    }
    text: str = yaml.safe_dump(content, sort_keys=False, width=110)
    return f"# Written by `kubestrap lab up`, which writes it anew when the lab changes: edit a copy.\n{text}"


def known_hosts_text(machines: Sequence[Machine], keys: Mapping[str, Sequence[str]]) -> str:
    """Write known_hosts lines for all keys of all machines; a key is the text of its `.pub` file."""
    lines = [
        f"{machine.address} {' '.join(key.split()[:2])}\n" for machine in machines for key in sorted(keys[machine.name])
    ]
    return "".join(lines)


def write(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all, for its owner's eyes; leave a file that has it already."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
