"""Whole labs: bringing them up, looking at them, taking them down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from bootstrap.errors import LabError, UsageError
from bootstrap.lab import home, image, machines, needs, network, snapshots
from bootstrap.lab.home import Design
from bootstrap.lab.image import Say
from bootstrap.lab.machines import Machine

DEFAULT_MACHINES = 3


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up, or was. Everything about it that its users need is in `folder`."""

    name: str
    folder: Path
    subnet: IPv4Network
    machines: tuple[Machine, ...]

    @property
    def inventory(self) -> Path:
        """The inventory of a cluster on its machines."""
        return self.folder / "inventory.yaml"

    @property
    def identity_file(self) -> Path:
        """The private key that all of its machines accept, for root and for ops."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts_file(self) -> Path:
        """The host keys of its machines."""
        return self.folder / "known_hosts"

    def machine(self, name: str) -> Machine:
        """Give one machine. Raises `UsageError` where there is none of that name."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        known = ", ".join(machine.name for machine in self.machines)
        raise UsageError(f"the lab {self.name} has no machine {name}; it has {known}")

    def ssh(self, machine: str, *command: str, user: str | None = None) -> list[str]:
        """Give the command line that logs in to a machine, or runs `command` there, by OpenSSH's client."""
        target = self.machine(machine)
        options = {
            "IdentityFile": self.identity_file,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts_file,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "30",
        }
        words = ["ssh", "-F", "none"]
        for option, value in options.items():
            words += ["-o", f"{option}={value}"]
        return [*words, f"{user or target.user}@{target.address}", *(["--", *command] if command else [])]


def quiet(_: str) -> None:
    """Say nothing."""


def up(
    name: str,
    *,
    machines: int | None = None,
    control_planes: int | None = None,
    snapshot: str | None = None,
    say: Say = quiet,
) -> Lab:
    """Bring a lab up: make what is missing of it, start what is stopped, and wait until all of it answers.

    A lab that is there keeps its size unless a larger one is asked for. `machines` counts all of them, the
    `control_planes` (by default one) among them. New machines start from `snapshot`, or from the base image.

    Raises `LabUnavailable` where this host cannot have labs, `UsageError` for a size or name it cannot have, `LabError`
    and `LabTimedOut` where something fails; doing it again goes on from there.
    """
    home.check_name(name)
    if snapshot is not None:
        home.check_name(snapshot, "snapshot")
    needs.require()
    if needs.allow_watchers():
        say(f"Raised fs.inotify.max_user_instances to {needs.ENOUGH_WATCHERS}, until the next boot")
    with home.claimed(name) as folder:
        wanted = sized(home.design(folder), name, machines, control_planes, snapshot)
        source = image.ensure(say) if wanted.snapshot is None else snapshots.require(wanted.snapshot)
        home.keep_design(folder, wanted)
        public_key = home.public_key(folder)
        net = network.ensure(name)
        lab = Lab(name, folder, net.subnet, home.layout(wanted, net.subnet))
        _run(lab, net, source, public_key, wanted, say)
    return lab


def sized(old: Design | None, name: str, total: int | None, control_planes: int | None, snapshot: str | None) -> Design:
    """Give what the lab shall be, from what it was and what is asked for now. Raises `UsageError`."""
    masters = control_planes or (old.control_planes if old else 1)
    everything = total or (max(old.control_planes + old.workers, masters) if old else max(DEFAULT_MACHINES, masters))
    workers = everything - masters
    if not 1 <= masters <= home.MOST_CONTROL_PLANES or not 0 <= workers <= home.MOST_WORKERS:
        raise UsageError(
            f"a lab cannot have {everything} machines with {masters} control planes among them; "
            f"it has 1 to {home.MOST_CONTROL_PLANES} control planes and up to {home.MOST_WORKERS} workers"
        )
    if old and (masters < old.control_planes or workers < old.workers):
        raise UsageError(
            f"the lab {name} has {old.control_planes} control planes and {old.workers} workers, and labs do not "
            f"shrink; take it down first: kubestrap lab down --name {name}"
        )
    return Design(masters, workers, snapshot or (old.snapshot if old else None))


def find(name: str) -> Lab:
    """Give a lab that is there. Raises `UsageError` where it is not, or is only half made."""
    home.check_name(name)
    needs.require()
    folder = home.folder(name)
    design = home.design(folder)
    net = network.find(name)
    if design is None or net is None:
        raise UsageError(f"there is no lab {name}; bring it up: kubestrap lab up --name {name}")
    return Lab(name, folder, net.subnet, home.layout(design, net.subnet))


def states(lab: Lab) -> Mapping[str, str]:
    """Give the state of each machine that the lab should have: podman's word for it, or `missing`."""
    found = machines.states(lab.name)
    return {machine.name: found.get(machine.name, "missing") for machine in lab.machines}


def names() -> list[str]:
    """Name all labs that something is there of."""
    needs.require()
    return sorted({*home.labs(), *network.labs()})


def down(name: str, *, say: Say = quiet) -> bool:
    """Take away all of a lab, whatever is left of it, and say whether there was anything. Images stay."""
    home.check_name(name)
    needs.require()
    with home.claimed(name) as folder:
        there = home.design(folder) is not None
        if there:
            say(f"Taking down the lab {name}")
        gone = machines.remove(name)
        closed = network.remove(name)
        home.remove(folder)
    found = there or bool(gone) or closed
    if found and not home.labs() and (kept := needs.watchers_kept()):
        say(kept)
    return found


def save(lab: Lab, machine: str, snapshot: str, *, say: Say = quiet) -> None:
    """Keep a machine as it is on disk as a snapshot; it is shut down for that, and started again."""
    home.check_name(snapshot, "snapshot")
    one = lab.machine(machine)
    with home.claimed(lab.name):
        say(f"Making the snapshot {snapshot} of {machine}")
        machines.stop(lab.name, one.name)
        try:
            snapshots.save(lab.name, one.name, snapshot)
        finally:
            machines.start(lab.name, one.name)
        machines.wait(lab.name, [one])


def _run(lab: Lab, net: network.Network, source: str, public_key: str, wanted: Design, say: Say) -> None:
    """Have all machines of the lab run, and write what tells how to reach them."""
    found = machines.states(lab.name)
    missing = [machine for machine in lab.machines if machine.name not in found]
    if missing:
        say(f"Making {', '.join(machine.name for machine in missing)} in {net.subnet}")
        left = {machines.volume(lab.name, machine.name, kind) for machine in missing for kind in machines.VOLUMES}
        machines.remove_volumes(left.intersection(machines.volumes(lab.name)))
    for machine in missing:
        if wanted.snapshot is not None:
            snapshots.fill(lab.name, machine.name, wanted.snapshot)
        machines.create(lab.name, machine, net, source, public_key)
    stopped = [machine for machine in lab.machines if found.get(machine.name) != "running"]
    for machine in stopped:
        machines.start(lab.name, machine.name)
    if stopped:
        say("Waiting for systemd and sshd")
    keys = machines.wait(lab.name, lab.machines)
    if not all(keys.values()):
        raise LabError(f"machines of the lab {lab.name} have no host keys")
    home.write(lab.known_hosts_file, home.known_hosts_text(lab.machines, keys))
    home.write(lab.inventory, home.inventory_text(lab.name, lab.machines, lab.folder))
