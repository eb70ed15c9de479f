"""`kubestrap reset`: take kubestrap's work off machines."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bootstrap.options import INVENTORY, AcceptNew, Access, InventoryOption, OutputOption, SudoPasswordFile, listed

app = typer.Typer()


@app.command()
def reset(
    inventory: InventoryOption = INVENTORY,
    limit: Annotated[list[str] | None, typer.Option(help="Only these hosts.", metavar="HOSTS")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the cluster's name.")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    *,
    output: OutputOption,
) -> None:
    """Take off the machines what kubestrap put there; other people's files stay. Twice is harmless.

    The Nodes of hosts that leave a cluster which goes on stay in it, and so does your kubeconfig here.
    """
    from bootstrap import inventory as inventories
    from bootstrap import reset as resetting
    from bootstrap.errors import UsageError

    read = Access(sudo_password_file, accept_new).to(inventories.load(inventory))
    hosts = resetting.chosen(read, listed(limit))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("reset asks for the cluster's name, and there is no terminal to ask at: give --yes")
        if not resetting.confirm(read, hosts, lambda question: str(typer.prompt(question, err=True))):
            raise UsageError(f"that is not the cluster's name ({read.cluster.name}); nothing was done")
    with output.run("reset", read, [host.name for host in hosts]) as listener:
        reports = resetting.reset(read, listener, only=listed(limit))
    for done in reports:
        if done.nothing:
            output.note(f"{done.host}: nothing to do: kubestrap has no receipt here")
        for stays in done.left:
            output.note(f"{done.host}: {stays.path} stays: {stays.why}")
    gone = {host.name for host in hosts}
    if any(host.is_control_plane and host.name not in gone for host in read.hosts):
        output.note(f"The cluster goes on. To take the Nodes out of it: kubectl delete node {' '.join(sorted(gone))}")
    output.result({"hosts": reports})
