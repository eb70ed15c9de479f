"""`kubestrap unlock`: see who holds machines' locks, and take them away."""

from __future__ import annotations

import sys
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
def unlock(
    inventory: InventoryOption = INVENTORY,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before locks are taken away.")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Show which runs hold the machines' locks, and take the locks away.

    What those runs still do on the machines is ended. The locks of runs that died lapse by themselves.
    """
    from bootstrap import inventory as inventories
    from bootstrap import lock
    from bootstrap.connections import connected
    from bootstrap.errors import UsageError
    from bootstrap.parallel import attempt, raise_failures

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    with connected(read, read.hosts) as connections:
        shown, failures = attempt(list(connections.hosts), lambda name: lock.show(connections.hosts[name]))
        held = {name: holder for name, holder in shown.items() if holder}
        lines = [f"{name}: {holder}; without renewal it lapses in {holder.left:g} s" for name, holder in held.items()]
        output.result({"locks": held}, "\n".join(lines))
        if not held:
            output.note("No machine that answers is locked.")
        elif not yes:
            if not sys.stdin.isatty():
                raise UsageError(
                    "unlock asks before it takes locks away, and there is no terminal to ask at: give --yes"
                )
            typer.confirm("Take these locks away?", abort=True, err=True)
        freed, unfreed = attempt(list(held), lambda name: lock.free(connections.hosts[name], held[name].run))
        for name, now in freed.items():
            output.note(f"{name}: {f'now {now}' if now else 'free'}")
        raise_failures({**connections.failures, **failures, **unfreed}, freed)
