"""`kubestrap remove`: take hosts out of a cluster that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap import completing
from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    Yes,
    confirm,
)

if TYPE_CHECKING:
    from bootstrap.output import Output
    from bootstrap.removal import Outcome

app = typer.Typer()

Dead = Annotated[
    bool, typer.Option("--dead", help="Also hosts that are not reached; the cluster must know them lost, too.")
]
ForceRemoval = Annotated[
    bool, typer.Option("--force", help="Go on where Pods do not leave, or a host that is not reached is Ready.")
]


@app.command()
def remove(
    hosts: Annotated[
        list[str], typer.Argument(help="Names of hosts or Nodes.", metavar="HOST...", autocompletion=completing.hosts)
    ],
    inventory: InventoryOption = INVENTORY,
    dead: Dead = False,
    force: ForceRemoval = False,
    yes: Yes = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Take hosts out of the cluster: Pods, etcd member, Node, and what kubestrap put on the machine.

    It is refused where etcd would lose its quorum. A lost machine that comes back is refused by the cluster.
    """
    from bootstrap import inventory as inventories
    from bootstrap import removal

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    removal.without(read, hosts)
    if not yes:
        confirm("remove", f"This takes {', '.join(hosts)} out of the cluster.", read.cluster.name)
    with output.run("remove", read, hosts) as listener:
        outcome = removal.remove(read, hosts, listener, output.warn, removal.Choice(dead, force))
    told(output, outcome, [host.name for host in read.hosts])
    output.result(outcome)


def told(output: Output, outcome: Outcome, known: list[str]) -> None:
    """Tell what became of hosts, and what is left to the user."""
    for name in outcome.gone:
        output.note(f"{name}: it is gone already")
    for done in outcome.reports:
        for stays in done.left:
            output.note(f"{done.host}: {stays.path} stays: {stays.why}")
    if listed := [name for name in (*outcome.removed, *outcome.gone) if name in known]:
        output.note(f"Take {', '.join(listed)} out of the inventory: `kubestrap join` would make it a Node again.")
