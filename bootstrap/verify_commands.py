"""`kubestrap verify`: find out whether machines and cluster are as they should be."""

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
    listed,
)

app = typer.Typer()


@app.command()
def verify(
    inventory: InventoryOption = INVENTORY,
    only: Annotated[
        list[str] | None, typer.Option(help="Make only these checks; smoke is the whole smoke test.", metavar="NAMES")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all checks and exit.")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Check every machine and try the cluster; nothing is changed, and what the smoke test makes is removed.

    Prints each check's outcome, and exits with 1 where one failed.
    """
    from bootstrap import inventory as inventories
    from bootstrap import verify as verifying
    from bootstrap.errors import VerificationFailed
    from bootstrap.events import Checked, Waiting
    from bootstrap.run import bundle_of

    if list_:
        checks = verifying.describe()
        text = "\n".join(f"{name:<29}{on:<15}{says}" for name, on, says in checks)
        output.result({"checks": [{"id": name, "on": on, "text": says} for name, on, says in checks]}, text)
        return
    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    contents = bundle_of(read).contents
    with output.run("verify", read, [host.name for host in read.hosts]) as listener:
        outcomes = verifying.verify(
            read,
            contents,
            only=listed(only),
            tell=lambda outcome: listener(Checked(outcome.host, outcome.check, outcome.problems)),
            on_wait=lambda host, what, elapsed, limit: listener(Waiting(host, "verify", what, elapsed, limit)),
        )
    output.result({"checks": len(outcomes), "failed": [outcome for outcome in outcomes if outcome.problems]})
    failed = [(outcome.host, outcome.check) for outcome in outcomes if outcome.problems]
    if failed:
        raise VerificationFailed(failed)
    output.note(f"All {len(outcomes)} checks passed.")
