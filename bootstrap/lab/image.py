"""The image machines start from: a small Debian with systemd and sshd, made once for each change of its recipe."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import locks
from bootstrap.lab.calls import call, podman

Say = Callable[[str], None]

REPOSITORY = "localhost/kubestrap-lab"
RELEASE = "bookworm"
BUILD_SECONDS = 1800
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "iproute2",
    "iptables",
    "nftables",
    "kmod",
    "conntrack",
    "ethtool",
    "socat",
    "procps",
    "mount",
    "util-linux",
    "ca-certificates",
    "curl",
)
CUSTOMIZE = """\
set -eu
chroot "$1" useradd --create-home --shell /bin/bash ops
printf 'ops ALL=(ALL) NOPASSWD:ALL\\n' > "$1/etc/sudoers.d/ops"
chmod 0440 "$1/etc/sudoers.d/ops"
install -d -m 0700 "$1/root/.ssh"
chroot "$1" install -d -m 0700 -o ops -g ops /home/ops/.ssh
printf 'PasswordAuthentication no\\n' > "$1/etc/ssh/sshd_config.d/lab.conf"
rm -f "$1"/etc/ssh/ssh_host_*
: > "$1/etc/machine-id"
# No consoles: all machines would share the host's. No periodic work: it would disturb measurements.
for unit in getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \\
    e2scrub_all.timer e2scrub_reap.service; do
  ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where Debian packages of some suites come from, as apt's configuration has it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def reference() -> str:
    """Give the image's name; its tag is a digest of all that goes into it but the mirror."""
    recipe = "\n".join([RELEASE, *PACKAGES, CUSTOMIZE])
    return f"{REPOSITORY}:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def ensure(say: Say) -> str:
    """Give the image's name; make the image where it is not there, which takes over a minute."""
    name = reference()
    if exists(name):
        return name
    with locks.locked(locks.FOLDER / "kubestrap-lab-image", "making the lab's base image", seconds=BUILD_SECONDS):
        if not exists(name):
            say("Making the base image of lab machines (once, about 80 seconds)")
            _make(name)
    return name


def exists(name: str) -> bool:
    """Say whether podman has an image of this name."""
    return podman("image", "exists", name, any_status=True).status == 0


def sources(etc: Path, codename: str) -> list[str]:
    """Give apt source lines for `RELEASE`, from the mirrors that the apt configuration below `etc` has for `codename`.

    Raises `LabError` where it has none: the host is no Debian, or has no mirror of its own.
    """
    suites = {f"{codename}{part}": f"{RELEASE}{part}" for part in ("", "-updates", "-security")}
    lines = []
    for source in _configured(etc):
        for suite in source.suites:
            if suite in suites and "main" in source.components:
                option = f" [signed-by={source.signed_by}]" if source.signed_by else ""
                lines.append(f"deb{option} {source.uri} {suites[suite]} main")
    if not any(line.split()[-2] == RELEASE for line in lines):
        raise LabError(
            f"the lab's base image needs a Debian mirror, and apt's configuration (below {etc}) names none for the "
            f"suite {codename}; use a Debian host with a mirror in /etc/apt/sources.list"
        )
    return list(dict.fromkeys(lines))


def codename(os_release: str) -> str:
    """Read the release's code name from the text of /etc/os-release; empty where it has none."""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    return found.group(1) if found else ""


def _make(name: str) -> None:
    lines = sources(Path("/etc/apt"), codename(Path("/etc/os-release").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(prefix="kubestrap-lab-") as folder:
        archive = os.path.join(folder, "rootfs.tar")  # noqa: PTH118 - text for a command line
        call(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            f"--customize-hook={CUSTOMIZE}",
            RELEASE,
            archive,
            "-",
            seconds=BUILD_SECONDS,
            stdin="".join(f"{line}\n" for line in lines),
        )
        podman("import", "--quiet", archive, name, seconds=600)


def _configured(etc: Path) -> Iterator[Source]:
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            yield from _one_line(path.read_text(encoding="utf-8", errors="replace").splitlines())
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        yield from _deb822(path.read_text(encoding="utf-8", errors="replace"))


def _one_line(lines: Iterable[str]) -> Iterator[Source]:
    """Read the one-line form of sources.list(5): `deb [option=value ...] uri suite component...`."""
    for line in lines:
        found = re.match(r"deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if found:
            options = dict(part.split("=", 1) for part in (found.group(1) or "").split() if "=" in part)
            yield Source(found.group(2), (found.group(3),), tuple(found.group(4).split()), options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[Source]:
    """Read the stanzas of sources.list(5). A key written into the stanza itself is left to Debian's own key ring."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false"}:
            continue
        signed = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            yield Source(
                uri,
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                signed if signed.startswith("/") and " " not in signed else "",
            )
