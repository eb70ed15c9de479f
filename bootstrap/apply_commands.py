"""`kubestrap apply`: make the whole cluster, or what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    DetailedExitcode,
    DryRun,
    Force,
    IgnorePreflight,
    InventoryOption,
    Kubeconfig,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    listed,
)

if TYPE_CHECKING:
    from bootstrap.diff import Differences
    from bootstrap.errors import Problem
    from bootstrap.events import Listener
    from bootstrap.gather import Request
    from bootstrap.run import Made
    from bootstrap.spec import Inventory

app = typer.Typer()


@app.command()
def apply(
    inventory: InventoryOption = INVENTORY,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    kubeconfig: Kubeconfig = None,
    dry_run: DryRun = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Make the inventory's cluster, or what it lacks: init and join in one run.

    Workers join from the moment that the first control-plane host serves. A second run changes nothing, and a run that
    was interrupted is finished by running it again. Hosts that the inventory names no more are left to remove.
    """
    from bootstrap.gather import Request
    from bootstrap.init_commands import Doing, go

    request = Request((), listed(ignore_preflight_errors), output.secrets, force=force)
    go(
        Doing("apply", lambda read: read.hosts, _make, _look),
        inventory,
        request,
        kubeconfig,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


def _make(
    inventory: Inventory, request: Request, listener: Listener, warn: Callable[[Problem], None]
) -> tuple[Made, dict[str, object]]:
    from bootstrap import applying

    applied = applying.apply(inventory, request, listener, warn)
    return applied.made, {"joined": applied.joined}


def _look(inventory: Inventory, request: Request, warn: Callable[[Problem], None], found: Differences) -> None:
    from bootstrap import diff

    diff.apply(inventory, request, warn, found)
