"""`kubestrap reset`: take kubestrap's work off machines."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    Limit,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    Yes,
    confirm,
    listed,
)

app = typer.Typer()


@app.command()
def reset(
    inventory: InventoryOption = INVENTORY,
    limit: Limit = None,
    yes: Yes = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where Pods do not leave, or the cluster does not answer.")
    ] = False,
    *,
    output: OutputOption,
) -> None:
    """Take off the machines what kubestrap put there; other people's files stay. Twice is harmless.

    Nodes leave a cluster that goes on first: cordoned, drained, deleted. Your kubeconfig here stays.
    """
    from bootstrap import inventory as inventories
    from bootstrap import reset as resetting

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    hosts = resetting.chosen(read, listed(limit))
    if not yes:
        confirm("reset", resetting.consequence(read, hosts), read.cluster.name)
    with output.run("reset", read, [host.name for host in hosts]) as listener:
        reports = resetting.reset(read, listener, only=listed(limit), force=force)
    for done in reports:
        if done.nothing:
            output.note(f"{done.host}: nothing to do: kubestrap has no receipt here")
        for stays in done.left:
            output.note(f"{done.host}: {stays.path} stays: {stays.why}")
    rest = [host.name for host in read.hosts if host not in hosts]
    if rest and not resetting.goes_on(read, hosts):
        output.note(f"The cluster is gone, and {', '.join(rest)} still run its Pods: reset them, too")
    output.result({"hosts": reports})
