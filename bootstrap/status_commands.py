"""`kubestrap status`: how the cluster is, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import INVENTORY, AcceptNew, Access, InventoryOption, OutputOption, SudoPasswordFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootstrap.connections import Connections
    from bootstrap.errors import BootstrapError
    from bootstrap.output import Output
    from bootstrap.spec import Inventory

app = typer.Typer()

WATCH_SECONDS = 10
_CLEAR = "\x1b[H\x1b[2J"


@app.command()
def status(
    inventory: InventoryOption = INVENTORY,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 10 s, until it is ended (Ctrl-C).")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    *,
    output: OutputOption,
) -> None:
    """Show how the cluster is: hosts, components, etcd, certificates, endpoint.

    Asks every machine, and the API on a control plane that is ready. Nothing is changed. A host that does not answer
    is named, and the exit code is 8; of the rest all is told.
    """
    import time

    from bootstrap import inventory as inventories
    from bootstrap.connections import connected
    from bootstrap.parallel import raise_failures

    read = Access(sudo_password_file, accept_new).to(inventories.load(inventory))
    while True:
        with connected(read, read.hosts) as connections:
            failures = _tell(read, connections, output, watch=watch)
            while watch and not failures:  # who is asked for a password is asked once
                time.sleep(WATCH_SECONDS)
                failures = _tell(read, connections, output, watch=watch)
        if not watch:
            raise_failures(failures, connections.hosts)
            return
        time.sleep(WATCH_SECONDS)


def _tell(
    inventory: Inventory, connections: Connections, output: Output, *, watch: bool
) -> Mapping[str, BootstrapError]:
    """Look once, and tell what was seen."""
    import sys

    from bootstrap.status import asking, shown

    seen, failures = asking.look(inventory, connections)
    clear = _CLEAR if watch and output.format == "text" and sys.stdout is not None and sys.stdout.isatty() else ""
    output.result(seen, f"{clear}{shown.text(seen)}")
    for problem in seen.problems:
        output.note(f"Warning: {problem}")
    return failures
