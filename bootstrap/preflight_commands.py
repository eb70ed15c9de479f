"""`kubestrap preflight`: find out whether machines are fit for a cluster, without changing them."""

from __future__ import annotations

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    IgnorePreflight,
    InventoryOption,
    Limit,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    listed,
)

app = typer.Typer()


@app.command()
def preflight(
    inventory: InventoryOption = INVENTORY,
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Look whether machines are fit for a cluster, and reach each other.

    Nothing is changed, and no lock is taken. The same is done at the beginning of
    init and join, for the machines that they are about. Exits with 4 where one is
    unfit (docs/preflight.md).
    """
    from bootstrap import inventory as inventories
    from bootstrap.errors import HostsFailed, PreflightFailed
    from bootstrap.events import HostFailed
    from bootstrap.gather import Request, inspect

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    request = Request(ignored=listed(ignore_preflight_errors), secrets=output.secrets, limit=listed(limit))
    found = inspect(read, request)
    errors = [problem for problem in found.problems if problem.level == "error"]
    for problem in found.problems:
        if problem.level != "error":
            output.warn(problem)
    output.result({"fit": found.fit, "problems": found.problems})
    if errors:
        for name, error in found.failures.items():
            output.tell(HostFailed(name, "preflight", error))
        raise PreflightFailed(errors)
    if found.failures:
        raise HostsFailed(found.failures, found.fit)
    count = len(found.fit)
    output.note(f"{count} machine{'s are' if count != 1 else ' is'} fit for use.")
