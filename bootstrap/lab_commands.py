"""`kubestrap lab`: throw-away machines on this host."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap.options import OutputOption

app = typer.Typer(help="Throw-away machines on this host, to try it all out.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", help="The lab's name; labs of different names stand side by side.")]
DEFAULT = "lab"


@app.command()
def up(
    name: Name = DEFAULT,
    machines: Annotated[
        int | None, typer.Option(min=1, help="How many machines, control planes among them. [default: 3]")
    ] = None,
    control_planes: Annotated[
        int | None, typer.Option(min=1, help="How many of them are control planes. [default: 1]")
    ] = None,
    *,
    output: OutputOption,
) -> None:
    """Bring a lab up, or complete it; print the path of its inventory."""
    from bootstrap import lab

    made = lab.up(name, machines=machines, control_planes=control_planes, say=output.note)
    for machine in made.machines:
        output.note(f"  {machine.name:<10} {machine.address:<16} {', '.join(machine.roles)}")
    output.result({"lab": name, "inventory": str(made.inventory)}, str(made.inventory))


@app.command()
def status(
    name: Annotated[str | None, typer.Option("--name", help="Only this lab.")] = None,
    *,
    output: OutputOption,
) -> None:
    """Show the machines of all labs, or of one, and their state."""
    from bootstrap import lab
    from bootstrap.errors import UsageError

    names = lab.names() if name is None else [name]
    rows = [("LAB", "MACHINE", "ADDRESS", "ROLES", "STATE")]
    for each in names:
        try:
            found = lab.find(each)
        except UsageError:
            if name is not None:
                raise
            rows.append((each, "-", "-", "-", "half made: bring it up again, or down"))
            continue
        states = lab.states(found)
        rows += [(each, one.name, one.address, ",".join(one.roles), states[one.name]) for one in found.machines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    data = [dict(zip(("lab", "machine", "address", "roles", "state"), row, strict=True)) for row in rows[1:]]
    output.result({"machines": data}, "\n".join(lines))


@app.command()
def ssh(
    machine: Annotated[str, typer.Argument(help="A machine's name, such as cp1.")],
    command: Annotated[list[str] | None, typer.Argument(help="A command to run there, after --.")] = None,
    name: Name = DEFAULT,
    user: Annotated[str | None, typer.Option(help="Log in as root or ops. [default: as in the inventory]")] = None,
) -> None:
    """Log in to a machine of a lab, or run a command there."""
    import os

    from bootstrap import lab
    from bootstrap.lab import calls

    words = lab.find(name).ssh(machine, *(command or []), user=user)
    os.execv(calls.find(words[0]) or words[0], words)  # noqa: S606 - ssh takes this process's place


@app.command()
def down(name: Name = DEFAULT, *, output: OutputOption) -> None:
    """Take a lab away: machines, network, rules, key and folder."""
    from bootstrap import lab

    removed = lab.down(name, say=output.note)
    if not removed:
        output.note(f"There is no lab {name}.")

    output.result({"lab": name, "removed": removed})
