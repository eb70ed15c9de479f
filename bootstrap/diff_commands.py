"""`kubestrap diff`: what a run would change, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    DetailedExitcode,
    Force,
    IgnorePreflight,
    InventoryOption,
    Limit,
    OutputOption,
    SkipPhases,
    SshBackendOption,
    SudoPasswordFile,
    Until,
    Workflow,
    WorkflowArgument,
    listed,
)

if TYPE_CHECKING:
    from bootstrap.diff import Differences
    from bootstrap.output import Output

app = typer.Typer()


@app.command()
def diff(
    workflow: WorkflowArgument,
    inventory: InventoryOption = INVENTORY,
    skip_phases: SkipPhases = None,
    until: Until = "",
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Show what init or join would change, file by file, object by object.

    Nothing is changed. Of secrets only digests are shown. The same as --dry-run of these commands.
    """
    from bootstrap import diff as differences
    from bootstrap import inventory as inventories
    from bootstrap.gather import Request
    from bootstrap.trial import require_fitting

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    require_fitting(read)
    request = Request(
        listed(skip_phases),
        listed(ignore_preflight_errors),
        output.secrets,
        until=until,
        limit=listed(limit),
        force=force,
    )
    find = {Workflow.INIT: differences.init, Workflow.JOIN: differences.join}[workflow]
    with showing(output, detailed_exitcode=detailed_exitcode) as found:
        find(read, request, output.warn, found)


@contextmanager
def showing(output: Output, *, detailed_exitcode: bool) -> Iterator[Differences]:
    """Give what takes differences in, and tell them at the end, also where some hosts failed."""
    from bootstrap.diff import DRIFT, Differences
    from bootstrap.errors import HostsFailed

    found = Differences(output.tell)
    try:
        yield found
    except HostsFailed:
        if found.events:
            output.result(found.data, "\n".join(found.lines()))
        raise
    output.result(found.data, "\n".join(found.lines()))
    if detailed_exitcode and found.drift:
        raise typer.Exit(DRIFT)
