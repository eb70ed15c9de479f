"""`kubestrap status`: how the cluster is, as text, as data, and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    html: Annotated[
        Path | None,
        typer.Option(help="Write it as a page, one file that needs no other.", metavar="FILE", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 10 s, until it is ended (Ctrl-C).")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
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

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    while True:
        with connected(read, read.hosts) as connections:
            failures = _tell(read, connections, output, html, watch=watch)
            while watch and not failures:  # who is asked for a password is asked once
                time.sleep(WATCH_SECONDS)
                failures = _tell(read, connections, output, html, watch=watch)
        if not watch:
            raise_failures(failures, connections.hosts)
            return
        time.sleep(WATCH_SECONDS)


def _tell(
    inventory: Inventory, connections: Connections, output: Output, html: Path | None, *, watch: bool
) -> Mapping[str, BootstrapError]:
    """Look once, and tell it in every form that is asked for."""
    import os
    import sys

    from bootstrap import userfiles
    from bootstrap.status import asking, page, runs, shown

    seen, failures = asking.look(inventory, connections)
    if html is not None:
        last = runs.last(seen.cluster, os.environ)
        userfiles.write(html, page.render(seen, last, refresh=WATCH_SECONDS if watch else 0).encode())
    clear = _CLEAR if watch and output.format == "text" and sys.stdout is not None and sys.stdout.isatty() else ""
    output.result(seen, f"{clear}{shown.text(seen)}" if html is None or watch else "")
    for problem in seen.problems:
        output.note(f"Warning: {problem}")
    if html is not None and not watch:
        output.note(f"The page is at {html}.")
    return failures
