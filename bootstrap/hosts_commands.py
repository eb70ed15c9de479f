"""`kubestrap hosts`: how the inventory's hosts are reached, and their host keys."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap.options import INVENTORY, InventoryOption, Limit, OutputOption, listed

app = typer.Typer(help="Show how hosts are reached, and their host keys.", no_args_is_help=True)


@app.command()
def ls(
    inventory: InventoryOption = INVENTORY,
    limit: Limit = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every setting of SSH, and where it comes from.")
    ] = False,
    *,
    output: OutputOption,
) -> None:
    """List the hosts and how to log in to them, from the inventory and ~/.ssh/config; nothing is connected to."""
    from bootstrap import inventory as inventories
    from bootstrap.reset import chosen as choose
    from bootstrap.transport import openssh_config

    read = inventories.load(inventory)
    chosen = choose(read, listed(limit))
    settings = {host.name: openssh_config.explain(read, host) for host in chosen}
    lines: list[str] = []
    for host in chosen:
        values = {setting.name: setting.value for setting in settings[host.name]}
        jump = "" if values["ProxyJump"] == "none" else f" through {values['ProxyJump']}"
        way = f"{values['User']}@{values['HostName']} port {values['Port']}{jump}"
        lines.append(f"{host.name}  {','.join(host.roles)}  {way}")
        if explain:
            lines += (f"  {each.name:<21}  {each.value}  ({each.source})" for each in settings[host.name])
    data = [{"name": host.name, "roles": host.roles, "settings": settings[host.name]} for host in chosen]
    output.result({"hosts": data}, "\n".join(lines))


@app.command()
def scan(
    inventory: InventoryOption = INVENTORY,
    limit: Limit = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add the keys of hosts of which nothing is known to the known_hosts file.")
    ] = False,
    *,
    output: OutputOption,
) -> None:
    """Show the fingerprints of all hosts' keys, and whether they are known; jump hosts first. Nobody logs in to hosts.

    Compare those of unknown hosts with the machines' own before you write them. Exits with 6 where a key has changed or
    is revoked; such keys are never written.
    """
    from bootstrap import hosts
    from bootstrap import inventory as inventories
    from bootstrap.parallel import raise_failures
    from bootstrap.reset import chosen

    read = inventories.load(inventory)
    found = hosts.scan(read, chosen(read, listed(limit)), write=write)
    lines = []
    for one in found.scanned:
        lines.append(f"{one.host}  {one.place}")
        for key in one.keys:
            where = f"  ({key.where})" if key.where else ""
            lines.append(f"  {key.state:<8} {key.type:<20} {key.fingerprint}{where}")
    output.result({"hosts": found.scanned, "failed": list(found.failures)}, "\n".join(lines))
    files: dict[str, list[str]] = {}
    for one in found.scanned:
        if one.written:
            files.setdefault(one.written, []).append(one.host)
    for file, names in files.items():
        output.note(f"{file} now has the keys of {', '.join(names)}.")
    if new := [one.host for one in found.scanned if one.is_new and not one.written]:
        output.note(
            f"Unknown: {', '.join(new)}. Compare the fingerprints with the machines' own, on their consoles "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: kubestrap hosts scan --write"
        )
    raise_failures(found.failures, {one.host: one for one in found.scanned if one.host not in found.failures})
