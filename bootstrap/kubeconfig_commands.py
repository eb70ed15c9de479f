"""`kubestrap kubeconfig`: bring the admin's kubeconfig to the operator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
)

app = typer.Typer()


@app.command()
def kubeconfig(
    inventory: InventoryOption = INVENTORY,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put it among the others in $KUBECONFIG, or else ~/.kube/config.")
    ] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Show the admin's kubeconfig, or merge it into one's own.

    It is read from the control plane. Merging keeps all other clusters, users and contexts.
    """
    from bootstrap import inventory as inventories
    from bootstrap import kubeconfig as kubeconfigs
    from bootstrap import paths, userfiles
    from bootstrap.run import operators_kubeconfig, reached_control_plane

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    with reached_control_plane(read) as control_plane:
        new = operators_kubeconfig(read, control_plane.node, control_plane.files[paths.ADMIN_CONF])
    if not merge:
        output.result({"kubeconfig": new.decode()}, new.decode())
        return
    given = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = Path(given) if given else Path.home() / ".kube" / "config"
    existing = path.read_bytes() if path.exists() else b""
    changed = userfiles.write(path, kubeconfigs.merge(existing, new, source=str(path)))
    output.note(f"{path} {'now has' if changed else 'has'} the context {read.cluster.name}, and it is the current one.")
    output.result({"path": str(path), "context": read.cluster.name, "changed": changed})
