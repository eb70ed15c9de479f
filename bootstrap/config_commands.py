"""`kubestrap config`: look at an inventory without touching any machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import AcceptNew, Access, OutputOption, SshBackendOption, SudoPasswordFile

if TYPE_CHECKING:
    from bootstrap.spec import Inventory

app = typer.Typer(help="Check, create, import or fill in an inventory; show the schema.", no_args_is_help=True)

STDIN = "-"


@app.command()
def validate(
    inventory: Annotated[
        Path, typer.Option("-i", "--inventory", help="The inventory file; - is standard input.")
    ] = Path("inventory.yaml"),
    *,
    output: OutputOption,
) -> None:
    """Check an inventory; tell every mistake with its line and column."""
    from bootstrap.inventory import require_supported
    from bootstrap.trial import require_fitting

    read = _read(inventory)
    require_supported(read)
    require_fitting(read)
    masters = sum(host.is_control_plane for host in read.hosts)
    workers = sum("worker" in host.roles for host in read.hosts)
    etcd = sum(host.is_etcd for host in read.hosts)
    hosts = "1 host" if len(read.hosts) == 1 else f"{len(read.hosts)} hosts"
    name = "stdin" if str(inventory) == STDIN else inventory
    output.result(
        {"inventory": str(name), "hosts": len(read.hosts), "controlPlane": masters, "workers": workers, "etcd": etcd},
        f"{name} is valid: {hosts} ({masters} control-plane, {workers} worker{f', {etcd} etcd' * bool(etcd)}).",
    )


@app.command()
def defaults(
    inventory: Annotated[
        Path | None, typer.Option("-i", "--inventory", help="Fill in this inventory; - is standard input.")
    ] = None,
    *,
    output: OutputOption,
) -> None:
    """Show an inventory with its defaults."""
    import yaml

    from bootstrap.inventory import dump

    text = dump(_example() if inventory is None else _read(inventory))
    output.result(yaml.safe_load(text), text)


@app.command()
def schema(*, output: OutputOption) -> None:
    """Show the JSON Schema of inventories, by which editors complete and check."""
    import json

    from bootstrap import schema

    made = schema.schema()
    output.result(made, json.dumps(made, indent=2))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file, or a folder of Ansible's; - is standard input.")],
    *,
    output: OutputOption,
) -> None:
    """Make an inventory of one of Ansible, Terraform, k0sctl or KubeOne.

    It goes to stdout, and what has no counterpart in it to stderr (docs/import.md).
    """
    import yaml

    from bootstrap import importing

    standard_input = None
    if str(source) == STDIN:
        standard_input = sys.stdin.read() if sys.stdin is not None else ""
    made = importing.read(source, standard_input)
    for note in made.notes:
        output.note(note)
    output.result({"inventory": yaml.safe_load(made.text), "notes": list(made.notes)}, made.text)


@app.command()
def create(
    servers: Annotated[
        list[str], typer.Argument(help="Machines, as [user@]address[:port]; control planes first.", metavar="SERVER")
    ],
    control_planes: Annotated[
        int, typer.Option("--control-planes", min=1, help="How many of them run the control plane.", metavar="NUMBER")
    ] = 1,
    identity_file: Annotated[
        str, typer.Option("--identity-file", help="The key to log in with.", metavar="FILE", show_default=False)
    ] = "",
    proxy_jump: Annotated[
        str, typer.Option("--proxy-jump", help="The jump host to go through.", metavar="SERVER", show_default=False)
    ] = "",
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Make a first inventory of machines, by looking at them; nothing is changed there.

    It goes to stdout, and what you should know of the machines to stderr. What is not given here comes from
    ~/.ssh/config.
    """
    import yaml

    from bootstrap import creating

    wanted = creating.given(servers, identity_file=identity_file, proxy_jump=proxy_jump)
    facts = creating.look(Access(sudo_password_file, accept_new, ssh_backend).to(wanted))
    made = creating.create(wanted, facts, control_planes=control_planes)
    for note in made.notes:
        output.note(note)
    output.result({"inventory": yaml.safe_load(made.text), "notes": list(made.notes)}, made.text)


def _read(path: Path) -> Inventory:
    from bootstrap import inventory

    if str(path) != STDIN:
        return inventory.load(path)
    source = sys.stdin.buffer.read(inventory.LARGEST_BYTES + 1) if sys.stdin is not None else b""
    return inventory.read(source, name="stdin", folder=Path.cwd())


def _example() -> Inventory:
    from bootstrap.spec import Host, Inventory

    return Inventory(hosts=(Host(name="node1", address="192.0.2.10", roles=("control-plane", "worker")),))
