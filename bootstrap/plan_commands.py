"""`kubestrap plan` and `kubestrap phases`: what a run would do, without a connection to any machine."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    InventoryOption,
    Limit,
    OutputOption,
    SkipPhases,
    Until,
    Workflow,
    WorkflowArgument,
    listed,
)

app = typer.Typer()
phases = typer.Typer(help="Show the phases that init and join are made of.", no_args_is_help=True)
app.add_typer(phases, name="phases")


@app.command()
def plan(
    workflow: WorkflowArgument,
    inventory: InventoryOption = INVENTORY,
    skip_phases: SkipPhases = None,
    until: Until = "",
    limit: Limit = None,
    *,
    output: OutputOption,
) -> None:
    """Show what init or join would do on each host, from the inventory alone.

    No machine is connected to; what only machines know is said to be unknown.
    """
    from bootstrap import inventory as inventories
    from bootstrap import outline
    from bootstrap.gather import Request
    from bootstrap.trial import require_fitting

    read = inventories.load(inventory)
    inventories.require_supported(read)
    require_fitting(read)
    request = Request(skip=listed(skip_phases), until=until, limit=listed(limit))
    found = outline.outline(read, workflow.value, request)
    output.result(outline.data(found), str(found))


@phases.command()
def ls(
    workflow: Annotated[Workflow | None, typer.Argument(help="Whose phases; both by default.")] = None,
    *,
    output: OutputOption,
) -> None:
    """List the phases in their order: name, where each is done, and what it writes."""
    from bootstrap import outline

    lines: list[str] = []
    data = []
    for shown in [workflow] if workflow else list(Workflow):
        lines += [f"{shown.value}:"]
        for phase in outline.WORKFLOWS[shown.value]:
            written = outline.writes(phase.name, shown.value)
            lines += [f"  {phase.name}  ({phase.on})", f"    {phase.help}", *(f"      {line}" for line in written)]
            data.append(
                {"workflow": shown.value, "name": phase.name, "on": phase.on, "help": phase.help, "writes": written}
            )
    output.result({"phases": data}, "\n".join(lines))
