"""The operator's folder with the CAs of a cluster whose machines do not hold their keys.

Files are named as under kubeadm's pki/: `ca.key`, `ca.crt`, `front-proxy-ca.key`, `etcd/ca.key` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bootstrap import paths, pki, userfiles
from bootstrap.spec import Cluster


def read(cluster: Cluster) -> Mapping[str, bytes]:
    """Give what the folder holds, by the path that it would have on a machine; nothing where there is no folder."""
    folder = Path(cluster.ca_directory)
    files = {f"{paths.PKI}/{name}": folder / name for ca in pki.CAS for name in (f"{ca.name}.key", f"{ca.name}.crt")}
    return {path: file.read_bytes() for path, file in files.items() if cluster.ca_directory and file.is_file()}


def write(cluster: Cluster, files: Mapping[str, bytes]) -> None:
    """Put `files` there, in their order, each whole or not at all: 0600, in folders of 0700 where they are made."""
    folder = Path(cluster.ca_directory)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, data in files.items():
        userfiles.write(folder / path.removeprefix(f"{paths.PKI}/"), data)
