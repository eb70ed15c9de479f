"""`kubestrap prune`: find hosts that the inventory does not have any more, and take them out of the cluster."""

from __future__ import annotations

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
def prune(
    inventory: InventoryOption = INVENTORY,
    yes: Annotated[bool, typer.Option("--yes", help="Take them out; else they are only listed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also those that are Ready, whose machines run.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 11 where there are some, and nothing is done.")
    ] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """List Nodes and etcd members that the inventory does not have any more; with --yes take them out.

    Their machines are not touched, as the inventory does not tell how to log in to them.
    """
    from bootstrap import inventory as inventories
    from bootstrap import pruning, removal
    from bootstrap.diff import DRIFT
    from bootstrap.errors import UsageError
    from bootstrap.remove_commands import told
    from bootstrap.report import table

    if detailed_exitcode and yes:
        raise UsageError("--detailed-exitcode is for listing: it does not go with --yes")
    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    strays = pruning.strays(read)
    rows = [["NAME", "ROLE", "NODE", "ETCD", "CREATED"]]
    rows += [[each.name, each.role, each.node, each.etcd, each.created or "-"] for each in strays]
    taken: tuple[str, ...] = ()
    if strays and yes:
        names = [each.name for each in strays]
        with output.run("prune", read, names) as listener:
            choice = removal.Choice(dead=True, force=force)
            outcome = removal.remove(read, names, listener, output.warn, choice, "prune")
        told(output, outcome, [])
        taken = outcome.removed
    output.result({"strays": strays, "removed": taken}, "\n".join(table(rows)) if strays and not yes else "")
    if not strays:
        output.note("The inventory has every Node and every etcd member.")
    elif not yes:
        output.note("Nothing was changed; --yes takes them out of the cluster.")
        if detailed_exitcode:
            raise typer.Exit(DRIFT)
