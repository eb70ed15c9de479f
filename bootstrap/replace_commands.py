"""`kubestrap replace`: another host in the place of one."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap import completing
from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    IgnorePreflight,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    Yes,
    confirm,
    listed,
)
from bootstrap.remove_commands import Dead, ForceRemoval

app = typer.Typer()


@app.command()
def replace(
    old: Annotated[
        str,
        typer.Argument(
            help="The host that goes; it need not be in the inventory.", metavar="OLD", autocompletion=completing.hosts
        ),
    ],
    new: Annotated[
        str,
        typer.Argument(help="The host of the inventory that joins.", metavar="NEW", autocompletion=completing.hosts),
    ],
    inventory: InventoryOption = INVENTORY,
    dead: Dead = False,
    force: ForceRemoval = False,
    yes: Yes = False,
    ignore_preflight_errors: IgnorePreflight = None,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Put another host in the place of one, as join and remove do it.

    The new host joins first, unless the old one is lost: then its member of etcd goes first.
    """
    from bootstrap import inventory as inventories
    from bootstrap import removal, replacing
    from bootstrap.errors import UsageError
    from bootstrap.gather import Request
    from bootstrap.remove_commands import told

    if {sudo_password_file} == {"-"}:
        raise UsageError("replace connects more than once: give --sudo-password-file a file, not standard input")
    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    replacing.require_names(read, old, new)
    if not yes:
        confirm("replace", f"This takes {old} out of the cluster, and {new} into it.", read.cluster.name)
    request = Request((), listed(ignore_preflight_errors), output.secrets)
    choice = removal.Choice(dead, force)
    with output.run("replace", read, [old, new]) as listener:
        replaced = replacing.replace(read, old, new, request, listener, output.warn, choice)
    told(output, replaced.removal, [host.name for host in read.hosts])
    output.result(replaced)
