"""Options that several commands share, worded once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap import completing
from bootstrap.output import FORMATS, Output

if TYPE_CHECKING:
    from bootstrap.spec import Inventory

InventoryOption = Annotated[Path, typer.Option("-i", "--inventory", help="The inventory file.", metavar="FILE")]
INVENTORY = Path("inventory.yaml")

SkipPhases = Annotated[
    list[str] | None,
    typer.Option(
        "--skip-phases",
        help="Leave out these phases or groups, e.g. addon/flannel,prepare.",
        metavar="NAMES",
        autocompletion=completing.phases,
    ),
]
IgnorePreflight = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-preflight-errors", help="Go on in spite of these checks, by name; all of them: all.", metavar="NAMES"
    ),
]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Where the admin's kubeconfig goes (0600).", metavar="FILE", show_default=False)
]
Force = Annotated[
    bool, typer.Option("--force", help="Move aside what another cluster left on the machines, and go on.")
]
Until = Annotated[
    str,
    typer.Option(
        "--until",
        help="Do nothing after this phase or group.",
        metavar="PHASE",
        show_default=False,
        autocompletion=completing.phases,
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", help="Only on these hosts.", metavar="HOSTS", autocompletion=completing.hosts),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing (diff).")]
DetailedExitcode = Annotated[
    bool, typer.Option("--detailed-exitcode", help="Exit with 11 where something would change.")
]
SudoPasswordFile = Annotated[
    str,
    typer.Option(
        "--sudo-password-file",
        help="Where sudo's password stands; - is standard input. Else it is asked for.",
        metavar="FILE",
        show_default=False,
    ),
]
AcceptNew = Annotated[
    bool, typer.Option("--accept-new", help="Add keys of unknown hosts to the known_hosts file, and go on.")
]


class SshBackend(StrEnum):
    """Who speaks SSH."""

    PARAMIKO = "paramiko"
    OPENSSH = "openssh"


SshBackendOption = Annotated[
    SshBackend | None,
    typer.Option(
        "--ssh-backend",
        help="Who speaks SSH: paramiko, or openssh, the system's own.",
        metavar="NAME",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for the cluster's name.")]
PhaseNames = Annotated[
    list[str],
    typer.Argument(help="Phases or groups; see phases ls.", metavar="PHASE", autocompletion=completing.phases),
]


class Workflow(StrEnum):
    """What machines are put through, phase by phase."""

    INIT = "init"
    JOIN = "join"


WorkflowArgument = Annotated[Workflow, typer.Argument(help="Which command's work.")]


def _format(text: str) -> str:
    if text not in FORMATS:
        raise typer.BadParameter(f"it must be {' or '.join(FORMATS)}, not {text!r}")
    return text


def _output(context: typer.Context, chosen: str) -> Output:
    """Give the way out of this call of the command line, told its form."""
    output: Output = context.find_root().obj
    output.format = "json" if chosen == "json" else "text"
    return output


OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        help="How events and data are told: text, or json (docs/events.md).",
        metavar="|".join(FORMATS),
        parser=_format,
        default_factory=lambda: "text",
        callback=_output,
        is_eager=True,
        show_default=False,
        autocompletion=completing.formats,
    ),
]
"""Every command has it, and tells everything through it: `def command(..., *, output: OutputOption)`."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the command line says about how to log in, over what the inventory says."""

    sudo_password_file: str
    accept_new: bool
    ssh_backend: SshBackend | None

    def to(self, inventory: Inventory) -> Inventory:
        """Give `inventory` with it."""
        from bootstrap.inventory import with_ssh

        settings: dict[str, object] = {}
        if self.sudo_password_file:
            settings["sudo_password_file"] = self.sudo_password_file
        if self.accept_new:
            settings["accept_new_host_keys"] = True
        if self.ssh_backend:
            settings["backend"] = self.ssh_backend.value
        return with_ssh(inventory, **settings) if settings else inventory


def listed(values: list[str] | None) -> tuple[str, ...]:
    """Give the names of an option that may be repeated and may hold several, parted by commas."""
    return tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())


def require_no_options(context: typer.Context) -> None:
    """Refuse options that stand before the name of a subcommand, where they would be lost. Raises `UsageError`."""
    from bootstrap.errors import UsageError

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{words} must stand after `{context.invoked_subcommand}`")


def require_together(*, looking: bool, detailed_exitcode: bool) -> None:
    """Refuse `--detailed-exitcode` for a run that changes machines. Raises `UsageError`."""
    from bootstrap.errors import UsageError

    if detailed_exitcode and not looking:
        raise UsageError("--detailed-exitcode goes with --dry-run, which is missing")


def confirm(command: str, consequence: str, cluster: str) -> None:
    """Have the user of `command` type the cluster's name, after its `consequence` is told.

    Raises `UsageError` where it is another one, or there is nobody to ask.
    """
    import sys

    from bootstrap.errors import UsageError

    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{command} asks for the cluster's name, and there is no terminal to ask at: give --yes")
    answer = str(typer.prompt(f"{consequence}\nType the cluster's name ({cluster}) to go on", err=True))
    if answer.strip() != cluster:
        raise UsageError(f"that is not the cluster's name ({cluster}); nothing was done")
