"""`kubestrap adopt`: take over a cluster that kubeadm made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    IgnorePreflight,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    listed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootstrap.diff import Differences
    from bootstrap.gather import Request
    from bootstrap.output import Output
    from bootstrap.spec import Inventory

app = typer.Typer()


@app.command()
def adopt(
    servers: Annotated[
        list[str],
        typer.Argument(help="The cluster's machines, as [user@]address[:port]; all that there are.", metavar="HOST"),
    ],
    inventory: Annotated[
        Path, typer.Option("-i", "--inventory", help="The inventory file to write.", metavar="FILE")
    ] = INVENTORY,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over an inventory that is there.")] = False,
    identity_file: Annotated[
        str, typer.Option("--identity-file", help="The key to log in with.", metavar="FILE", show_default=False)
    ] = "",
    proxy_jump: Annotated[
        str, typer.Option("--proxy-jump", help="The jump host to go through.", metavar="SERVER", show_default=False)
    ] = "",
    ignore_preflight_errors: IgnorePreflight = None,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Take over a cluster that kubeadm made: write the inventory of it, and show what init and join would change.

    Nothing is changed on the machines. What of the cluster an inventory cannot say is told on stderr (docs/adopt.md).
    """
    from bootstrap import adopting, creating
    from bootstrap import inventory as inventories
    from bootstrap.diff import Differences
    from bootstrap.errors import BootstrapError, UsageError
    from bootstrap.gather import Request

    if inventory.exists() and not overwrite:
        raise UsageError(f"{inventory} is there already: name another file with -i, or give --overwrite")
    wanted = creating.given(servers, identity_file=identity_file, proxy_jump=proxy_jump)
    access = Access(sudo_password_file, accept_new, ssh_backend)
    made = adopting.adopt(wanted, access.to(wanted), output.secrets)
    write(inventory, made.text, made.files, overwrite=overwrite)
    for note in made.notes:
        output.note(note)
    output.note(f"{inventory} is written. What init and join would change:")
    read = access.to(inventories.load(inventory))
    found = Differences(output.tell)
    told = {"inventory": str(inventory), "notes": list(made.notes)}
    try:
        inventories.require_supported(read)
        _look(read, Request((), listed(ignore_preflight_errors), output.secrets), output, found)
    except BootstrapError:
        output.result({**told, **found.data}, "\n".join(found.lines()) if found.events else "")
        output.note(f"The differences could not all be found. {inventory} stays; `kubestrap diff init` shows them.")
        raise
    output.result({**told, **found.data}, "\n".join(found.lines()))


def _look(read: Inventory, request: Request, output: Output, found: Differences) -> None:
    from bootstrap import diff

    diff.init(read, request, output.warn, found)
    if any(host.is_worker for host in read.hosts):
        diff.join(read, request, output.warn, found)


def write(inventory: Path, text: str, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the inventory, whole or not at all, after the files that it names. Raises `UsageError` for one there."""
    from bootstrap import userfiles
    from bootstrap.errors import UsageError

    here = inventory.absolute().parent
    for name, data in files.items():
        path = here / name
        if path.exists() and path.read_bytes() != data and not overwrite:
            raise UsageError(f"{path} is there already, and is another: move it away, or give --overwrite")
    for name, data in files.items():
        userfiles.write(here / name, data)
    try:
        with userfiles.arriving(inventory, replace=overwrite) as (file, _):
            file.write(text.encode())
    except FileExistsError as error:
        raise UsageError(f"{inventory} is there already: it was written meanwhile") from error
