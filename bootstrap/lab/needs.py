"""What a host must have to run labs, and what to install where it lacks it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from bootstrap.errors import LabUnavailable
from bootstrap.lab import calls

PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "iptables": "iptables",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
}
"""Tools, and the Debian packages that bring them."""

NETWORK_TOOLS = ("/usr/lib/cni/bridge", "/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")
"""Podman makes networks with one of these."""

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""What root must be able to do for machines with systemd in them; their numbers (linux/capability.h)."""

WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_WATCHERS = 8192
"""systemd, containerd and the kubelet hold about 12 inotify instances a machine, all of them root's; the kernel allows
root 128. With none left systemd exits as it starts, without a word."""


def lacking(
    find: Callable[[str], str | None], exists: Callable[[str], bool], *, uid: int, capabilities: int
) -> list[str]:
    """List what a host lacks, one line each, with what to do about it."""
    lacks = []
    packages = [package for tool, package in PACKAGES.items() if find(tool) is None]
    if not any(exists(path) for path in NETWORK_TOOLS):
        packages.append("containernetworking-plugins")
    if packages:
        lacks.append(f"packages are missing; install them: apt-get install {' '.join(packages)}")
    if uid != 0:
        lacks.append("machines with systemd need root; run this as root (sudo)")
    elif denied := [name for name, bit in CAPABILITIES.items() if not capabilities >> bit & 1]:
        lacks.append(
            f"root lacks {', '.join(denied)} here; use a real or virtual machine, or a container started as privileged"
        )
    return lacks


def require() -> None:
    """Raise `LabUnavailable` with everything this host lacks, if it lacks anything."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    lacks: Sequence[str] = lacking(
        calls.find, os.path.exists, uid=os.geteuid(), capabilities=effective_capabilities(status)
    )
    if lacks:
        raise LabUnavailable(lacks)


def effective_capabilities(status: str) -> int:
    """Read the effective capabilities, as a bit set, from the text of /proc/self/status."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0


def watchers_kept(limit: Path = WATCHERS) -> str:
    """Say that the limit that labs need is in force still, and how to lower it; nothing where it is not."""
    if int(limit.read_text(encoding="ascii")) != ENOUGH_WATCHERS:
        return ""
    return (
        f"fs.inotify.max_user_instances stays {ENOUGH_WATCHERS} until the next boot, for other programs may need that "
        "by now; to lower it: sysctl -w fs.inotify.max_user_instances=128"
    )


def allow_watchers(limit: Path = WATCHERS) -> bool:
    """Raise this host's limit of inotify instances to `ENOUGH_WATCHERS`, and say whether it was lower.

    It stays raised until the next boot: other programs may rely on it by then. Raises `LabUnavailable` where the limit
    is too low and cannot be raised.
    """
    try:
        if int(limit.read_text(encoding="ascii")) >= ENOUGH_WATCHERS:
            return False
        limit.write_text(f"{ENOUGH_WATCHERS}\n", encoding="ascii")
    except OSError as error:
        lack = (
            f"machines need more inotify instances than {limit} allows, and it cannot be raised ({error.strerror}); "
            f"on the host run: sysctl -w fs.inotify.max_user_instances={ENOUGH_WATCHERS}"
        )
        raise LabUnavailable([lack]) from error
    return True
