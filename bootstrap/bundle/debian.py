"""Programs of Debian that go into images: what must be installed, and layers made of it.

For another kind of processor they come from unpacked packages (`foreign`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from bootstrap.bundle.foreign import Root
from bootstrap.bundle.oci import Entry
from bootstrap.errors import BootstrapError

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "xtables-nft-multi": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "kmod": "kmod",
    "ipset": "ipset",
    "cp": "coreutils",
    "haproxy": "haproxy",
    "keepalived": "keepalived",
    "bash": "bash",
    "ldd": "libc-bin",
}
"""The Debian package of each program that images are made from."""

LAYERS = {
    "iptables": ("xtables-nft-multi", "nft", "conntrack", "kmod", "ipset"),
    "cp": ("cp",),
    "haproxy": ("haproxy",),
    "keepalived": ("keepalived", "bash"),
}
"""The programs of each layer that can be made."""

_LINKS = {
    "iptables": {
        **{
            f"/usr/sbin/{family}{suffix}": "xtables-nft-multi"
            for family in ("iptables", "ip6tables")
            for suffix in ("", "-save", "-restore")
        },
        "/usr/sbin/modprobe": "/usr/bin/kmod",
    },
    "cp": {},
    "haproxy": {},
    "keepalived": {},
}
_FILES = {
    # keepalived looks up the user that runs its scripts.
    "keepalived": {"/etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n", "/etc/group": b"root:x:0:\n"},
}
_FOLDERS = {
    "xtables-nft-multi": "/usr/sbin",
    "nft": "/usr/sbin",
    "conntrack": "/usr/sbin",
    "ipset": "/usr/sbin",
    "kmod": "/usr/bin",
    "cp": "/bin",
    "haproxy": "/usr/local/sbin",
    "keepalived": "/usr/local/sbin",
    "bash": "/bin",
}
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


def find(program: str, root: Path = Path("/")) -> Path | None:
    """Give where `program` is installed, on the system's own path and not the user's, or is unpacked in `root`."""
    folders = (str(root / folder.lstrip("/")) for folder in SEARCH.split(os.pathsep))
    found = shutil.which(program, path=os.pathsep.join(folders))
    return Path(found) if found else None


def missing() -> dict[str, str]:
    """Give the programs that are not installed, with the package of each."""
    return {program: package for program, package in PACKAGES.items() if find(program) is None}


def layer(tools: str, root: Root | None = None) -> list[Entry]:
    """Give the layer `tools`: `cp`, `haproxy`, `keepalived`, or `iptables` (for kube-proxy and flannel).

    Its programs are those installed here, or those in `root`.

    With each program go the shared libraries that it needs; with iptables, which speaks to nftables, its extensions,
    and with keepalived a shell, which runs what it checks.
    """
    entries: list[Entry] = []
    above = root.path if root else Path("/")
    programs = [_installed(program, above) for program in LAYERS[tools]]
    for program, source in zip(LAYERS[tools], programs, strict=True):
        entries.append(Entry(f"{_FOLDERS[program]}/{program}", source))
    extensions = sorted((above / "usr/lib").glob("*/xtables/*.so")) if tools == "iptables" else []
    for extension in extensions:
        place = f"/{extension.relative_to(above)}"
        if extension.is_symlink():
            entries.append(Entry(place, link=str(extension.readlink())))
        else:
            entries.append(Entry(place, extension, mode=0o644))
    loading = [*programs, *(path for path in extensions if not path.is_symlink())]
    libraries = root.libraries(loading) if root else [(library, Path(library)) for library in _libraries(loading)]
    entries += [Entry(place, file) for place, file in libraries]
    entries += [Entry(path, link=target) for path, target in _LINKS[tools].items()]
    entries += [Entry(path, text, mode=0o644) for path, text in _FILES.get(tools, {}).items()]
    return entries


def _installed(program: str, root: Path) -> Path:
    found = find(program, root)
    if found is None:
        raise BootstrapError(f"{program} is not installed; it comes with the package {PACKAGES[program]}")
    return found.resolve()


def _libraries(programs: Iterable[Path]) -> Sequence[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LD_")} | {"LC_ALL": "C"}
    done = subprocess.run(
        ["ldd", *map(str, programs)], env=clean, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0 or "not found" in done.stdout:
        raise BootstrapError(
            f"the libraries of installed programs cannot be told; ldd says:\n{done.stdout}{done.stderr}"
        )
    return sorted(set(_LIBRARY.findall(done.stdout)))
