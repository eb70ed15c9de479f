"""`kubestrap init`: make the control plane."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    Limit,
    OutputOption,
    PhaseNames,
    SkipPhases,
    SshBackendOption,
    SudoPasswordFile,
    Until,
    listed,
    require_no_options,
    require_together,
)

if TYPE_CHECKING:
    from bootstrap.diff import Differences
    from bootstrap.errors import Problem
    from bootstrap.events import Listener
    from bootstrap.gather import Request
    from bootstrap.output import Output
    from bootstrap.run import Made
    from bootstrap.spec import Host, Inventory

app = typer.Typer()


class Doing(NamedTuple):
    """A command that makes a control plane: its hosts, how they are worked on, and how they are only looked at.

    `make` gives what is left with the operator, and what else the result tells.
    """

    name: str
    hosts: Callable[[Inventory], Sequence[Host]]
    make: Callable[[Inventory, Request, Listener, Callable[[Problem], None]], tuple[Made, dict[str, object]]]
    look: Callable[[Inventory, Request, Callable[[Problem], None], Differences], None]


def _make(
    inventory: Inventory, request: Request, listener: Listener, warn: Callable[[Problem], None]
) -> tuple[Made, dict[str, object]]:
    from bootstrap import run

    return run.init(inventory, request, listener, warn), {}


def _look(inventory: Inventory, request: Request, warn: Callable[[Problem], None], found: Differences) -> None:
    from bootstrap import diff

    diff.init(inventory, request, warn, found)


@app.callback(invoke_without_command=True)
def init(
    context: typer.Context,
    inventory: InventoryOption = INVENTORY,
    skip_phases: SkipPhases = None,
    until: Until = "",
    limit: Limit = None,
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
    """Make the control plane on the inventory's control-plane host.

    A second run changes nothing, and a run that was interrupted is finished by running it again.
    """
    from bootstrap.gather import Request

    if context.invoked_subcommand:
        require_no_options(context)
        return
    request = Request(
        listed(skip_phases),
        listed(ignore_preflight_errors),
        output.secrets,
        until=until,
        limit=listed(limit),
        force=force,
    )
    go(
        Doing("init", lambda read: read.formed, _make, _look),
        inventory,
        request,
        kubeconfig,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


@app.command()
def phase(
    names: PhaseNames,
    inventory: InventoryOption = INVENTORY,
    limit: Limit = None,
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
    """Do these phases of init alone, in init's order.

    Machines are looked at first as always, and what the phases build on must be there already.
    """
    from bootstrap.gather import Request

    request = Request(
        (),
        listed(ignore_preflight_errors),
        output.secrets,
        only=listed(names),
        limit=listed(limit),
        force=force,
    )
    go(
        Doing("init", lambda read: read.formed, _make, _look),
        inventory,
        request,
        kubeconfig,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


def go(
    doing: Doing,
    inventory: Path,
    request: Request,
    kubeconfig: Path | None,
    *,
    output: Output,
    looking: bool,
    detailed_exitcode: bool,
    access: Access,
) -> None:
    """Make a control plane, with what else `doing` makes, or look what would be made, and give the result."""
    from bootstrap import inventory as inventories
    from bootstrap.trial import require_fitting

    require_together(looking=looking, detailed_exitcode=detailed_exitcode)
    read = access.to(inventories.load(inventory))
    inventories.require_supported(read)
    require_fitting(read)
    if looking:
        from bootstrap.diff_commands import showing

        with showing(output, detailed_exitcode=detailed_exitcode) as found:
            doing.look(read, request, output.warn, found)
        return
    hosts = [host.name for host in doing.hosts(read)]
    with output.run(doing.name, read, hosts) as listener:
        made, more = doing.make(read, request, listener, output.warn)
    output.result({**_handed_over(made, read.cluster.name, kubeconfig, output), **more})


def _handed_over(made: Made, cluster: str, path: Path | None, output: Output) -> dict[str, object]:
    """Write the admin's kubeconfig, where one was made, and give what a result says of it."""
    from bootstrap import userfiles

    if not made.kubeconfig:
        return {"kubeconfig": "", "changed": False}
    path = path or userfiles.kubeconfig_path(cluster, os.environ)
    written = userfiles.write(path, made.kubeconfig)
    output.note(f"The admin's kubeconfig {'is now' if written else 'is'} at {path}: export KUBECONFIG={path}")
    return {"kubeconfig": str(path), "changed": written}
