"""`kubestrap apply`: make the whole cluster, or what it lacks."""

from __future__ import annotations

from pathlib import Path
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
    require_together,
)

if TYPE_CHECKING:
    from bootstrap.gather import Request
    from bootstrap.output import Output

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

    request = Request((), listed(ignore_preflight_errors), output.secrets, force=force)
    _go(
        inventory,
        request,
        kubeconfig,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new, ssh_backend),
    )


def _go(
    inventory: Path,
    request: Request,
    kubeconfig: Path | None,
    *,
    output: Output,
    looking: bool,
    detailed_exitcode: bool,
    access: Access,
) -> None:
    from bootstrap import inventory as inventories
    from bootstrap.applying import apply as make
    from bootstrap.init_commands import hand_over
    from bootstrap.trial import require_fitting

    require_together(looking=looking, detailed_exitcode=detailed_exitcode)
    read = access.to(inventories.load(inventory))
    inventories.require_supported(read)
    require_fitting(read)
    if looking:
        from bootstrap import diff
        from bootstrap.diff_commands import showing

        with showing(output, detailed_exitcode=detailed_exitcode) as found:
            diff.apply(read, request, output.warn, found)
        return
    with output.run("apply", read, [host.name for host in read.hosts]) as listener:
        applied = make(read, request, listener, output.warn)
    given = hand_over(applied.made.kubeconfig, read.cluster.name, kubeconfig, output)
    output.result({**given, "joined": applied.joined})
