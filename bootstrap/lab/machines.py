"""Machines: podman containers with systemd as PID 1 and sshd, on the lab's network."""

from __future__ import annotations

import json
import re
import resource
import socket
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.errors import LabError, LabTimedOut
from bootstrap.lab.calls import podman
from bootstrap.lab.network import LABEL, Network

if TYPE_CHECKING:
    from bootstrap.spec import Role

MACHINE_LABEL = "kubestrap.machine"
VOLUMES = {
    "containerd": "/var/lib/containerd",  # overlay does not work on the overlay that a container's own files are on
    "kubelet": "/var/lib/kubelet",
    "etcd": "/var/lib/etcd",
}
READY_SECONDS = 240

START = """\
set -eu
mount --make-rshared /
if [ "$(cat /etc/machine-id)" != "$1" ]; then
  rm -f /etc/ssh/ssh_host_*
  for type in ed25519 ecdsa; do ssh-keygen -q -t $type -N '' -f /etc/ssh/ssh_host_${type}_key; done
  printf '%s' "$3" > /etc/hosts
  printf 'nameserver %s\\n' "$4" > /etc/resolv.conf
  chmod 0644 /etc/hosts /etc/resolv.conf
  printf '%s\\n' "$2" > /root/.ssh/authorized_keys
  install -m 0600 -o ops -g ops /root/.ssh/authorized_keys /home/ops/.ssh/authorized_keys
  chmod 0600 /root/.ssh/authorized_keys
  rm -rf /var/log/journal/*
  printf '%s\\n' "$1" > /etc/machine-id
fi
exec /sbin/init
"""
"""What a machine does before systemd: mounts are shared as systemd does it outside of containers, and a new machine
gets keys, names and an id of its own, the id last, so that a machine stopped half-way does it again."""

LOOK = """\
tries=50
while tries=$((tries - 1)); do
  state=$(systemctl is-system-running 2>/dev/null)
  case $state in running|degraded) systemctl is-active --quiet ssh && break;; esac
  if [ "$tries" = 0 ]; then
    echo "systemd is ${state:-not there}, sshd is $(systemctl is-active ssh 2>&1)" >&2
    systemctl list-jobs --no-legend >&2
    exit 1
  fi
  sleep 0.1
done
cat /etc/ssh/ssh_host_*_key.pub
"""
"""Prints the host keys of a machine once it is up; where that takes longer than some seconds, says why it is not."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a lab. `user` is who logs in to it by the lab's inventory."""

    name: str
    address: str
    roles: tuple[Role, ...]
    user: str


def container(lab: str, machine: str) -> str:
    """Give the name of a machine's container."""
    return f"kubestrap-{lab}-{machine}"


def link_address(address: str) -> str:
    """Give the MAC address that goes with an IPv4 address.

    One that changed with each start would leave a machine unreachable until its neighbours forget the old one.
    """
    return f"0a:58:{IPv4Address(address).packed.hex(':')}"


def volume(lab: str, machine: str, kind: str) -> str:
    """Give the name of one of a machine's volumes."""
    return f"{container(lab, machine)}-{kind}"


def states(lab: str) -> dict[str, str]:
    """Give podman's state (`running`, `exited`, `created`, ...) of each machine that the lab has, by name."""
    answer = podman("ps", "--all", "--filter", f"label={LABEL}={lab}", "--format", "json")
    return {found["Labels"][MACHINE_LABEL]: found["State"] for found in json.loads(answer.stdout or "[]")}


def create(lab: str, machine: Machine, network: Network, image: str, public_key: str) -> None:
    """Make the machine, which is not there, from `image`. Volumes of its that are there are used, others are new."""
    mounts = [f"--volume={volume(lab, machine.name, kind)}:{path}:exec,suid,dev" for kind, path in VOLUMES.items()]
    hosts = (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        f"{machine.address}\t{machine.name}\n"
    )  # fmt: skip
    podman(
        "create",
        f"--name={container(lab, machine.name)}",
        f"--label={LABEL}={lab}",
        f"--label={MACHINE_LABEL}={machine.name}",
        f"--hostname={machine.name}",
        f"--network={network.name}",
        f"--ip={machine.address}",
        f"--mac-address={link_address(machine.address)}",
        "--no-hosts",  # podman's would be a mount that cannot be renamed over
        "--dns=none",
        "--privileged",
        "--systemd=false",  # podman's mode for systemd mounts the host's hierarchy over the private one
        "--cgroupns=private",
        "--env=container=podman",
        "--stop-signal=SIGRTMIN+3",
        "--stop-timeout=60",
        "--pids-limit=-1",
        *(f"--ulimit={name}={limit}:{limit}" for name, limit in _limits().items()),
        "--tmpfs=/run:exec,suid,dev,mode=755",
        "--tmpfs=/tmp:exec,suid,dev,mode=1777",
        *mounts,
        image,
        "/bin/sh",
        "-c",
        START,
        "sh",
        uuid.uuid4().hex,
        public_key,
        hosts,
        network.gateway,  # where nothing answers, at once; a machine needs some name server in its file
    )


def volumes(lab: str) -> list[str]:
    """Name the volumes that machines of the lab have, or that are left of some."""
    # By name: podman makes volumes when a container is made, and those bear no label.
    form = re.compile(rf"{re.escape(container(lab, ''))}(cp|worker)[0-9]+-({'|'.join(VOLUMES)})")
    return [name for name in podman("volume", "ls", "--quiet").stdout.split() if form.fullmatch(name)]


def remove_volumes(names: Collection[str]) -> None:
    """Take away volumes that no machine uses."""
    if names:
        podman("volume", "rm", "--force", *names)


def start(lab: str, machine: str) -> None:
    """Start a machine that is stopped."""
    podman("start", container(lab, machine))


def stop(lab: str, machine: str) -> None:
    """Shut a machine down, as systemd does it."""
    podman("stop", "--time=60", container(lab, machine))


def cut_power(lab: str, machine: str) -> None:
    """End a machine at once, with nothing said to anybody. What is on its disks stays."""
    podman("kill", "--signal=KILL", container(lab, machine))


def wait(lab: str, machines: Sequence[Machine], *, seconds: float = READY_SECONDS) -> Mapping[str, tuple[str, ...]]:
    """Wait until systemd and sshd of all `machines` are up; give each one's public host keys, by name.

    Raises `LabTimedOut` after `seconds`, `LabError` at once where a machine has stopped.
    """
    deadline = time.monotonic() + seconds
    keys: dict[str, tuple[str, ...]] = {}
    while True:
        reasons = {}
        for machine in machines:
            if machine.name not in keys:
                answer = podman("exec", container(lab, machine.name), "sh", "-c", LOOK, any_status=True)
                if answer.status == 0 and _greets(machine.address):
                    keys[machine.name] = tuple(answer.stdout.splitlines())
                else:
                    reasons[machine.name] = answer.stderr.strip() or f"sshd does not greet at {machine.address}"
        if not reasons:
            return keys
        running = states(lab)
        for name in reasons:
            if running.get(name) != "running":
                raise LabError(f"the machine {name} stopped while it started:\n{_log(lab, name)}")
        if time.monotonic() > deadline:
            told = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
            raise LabTimedOut(f"machines were not up after {seconds:g} seconds:\n{told}")
        time.sleep(0.2)


def remove(lab: str) -> int:
    """Take away all machines and volumes of a lab, whatever state they are in, and say how many there were."""
    found = podman("ps", "--all", "--quiet", "--filter", f"label={LABEL}={lab}").stdout.split()
    if found:
        podman("rm", "--force", "--ignore", "--time=0", "--volumes", *found)
    left = volumes(lab)
    remove_volumes(left)
    return len(found) + len(left)


def _limits() -> dict[str, int]:
    """Give limits that this process may hand on: podman's defaults ask for more than it may have."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    most = 1 << 20
    # Podman lowers its own limit of processes to pid_max, and its children cannot raise it again.
    return {
        "nofile": most if files == resource.RLIM_INFINITY else min(files, most),
        "nproc": pid_max if processes == resource.RLIM_INFINITY else min(processes, pid_max),
    }


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _log(lab: str, machine: str) -> str:
    answer = podman("logs", "--tail=20", container(lab, machine), any_status=True)
    lines = (answer.stdout + answer.stderr).splitlines() or ["it said nothing"]
    return "\n".join(f"  {line}" for line in lines)
