"""What a shell completes of a command line: hosts of the inventory, phases, kinds of mistakes.

A user waits for each answer, so nothing slow is imported: the inventory is read as YAML alone, and the names of phases
stand in a file that `tools/phases_docs.py` writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import typer

VARIABLE = "_KUBESTRAP_COMPLETE"
"""What a shell sets in the environment of a call that is to complete a command line (typer's convention)."""
PHASE_NAMES = "phase_names.json"


def complete(top: typer.Typer, instruction: str) -> int:
    """Answer a shell on stdout: what `instruction` asks for, such as `complete_bash`. Gives the exit code."""
    from typer._completion_classes import completion_init  # typer 0.29 completes by itself in its own `main` alone
    from typer.completion import shell_complete

    completion_init()
    return shell_complete(typer.main.get_command(top), {}, "kubestrap", VARIABLE, instruction)


def first_word(environment: Mapping[str, str]) -> str:
    """Give the word after the command's name in the line that a shell is to complete, where others follow it."""
    line = environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS", "")
    found = re.match(r"\S+\s+([a-z-]+)\s", line)
    return found[1] if found else ""


def script(shell: str) -> str:
    """Give what a shell is to read to complete command lines: bash, zsh or fish."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name="kubestrap", complete_var=VARIABLE, shell=shell)


def hosts(context: typer.Context, incomplete: str) -> list[str]:
    """Give the names of the inventory's hosts, none where it cannot be read; after a comma, those not named yet."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(Path(context.params["inventory"]).read_bytes(), loader)  # noqa: S506 - a safe one
        names = [str(host["name"]) for host in data["hosts"]]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return []
    return _next(names, incomplete)


def phases(context: typer.Context, incomplete: str) -> list[str]:
    """Give the names of phases and their groups, of the command's workflow; after a comma, those not named yet."""
    names: dict[str, list[str]] = json.loads(resources.files("bootstrap").joinpath(PHASE_NAMES).read_bytes())
    words = [*context.command_path.split(), *context.args, context.params.get("workflow")]
    return _next([name for workflow, found in names.items() if workflow in words for name in found], incomplete)


def explained(incomplete: str) -> list[str]:
    """Give the kinds of mistakes that `explain` knows."""
    from bootstrap import mistakes

    return [name for name in mistakes.catalogue() if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Give the values of `--output`."""
    from bootstrap.output import FORMATS

    return [form for form in FORMATS if form.startswith(incomplete)]


def _next(names: Sequence[str], incomplete: str) -> list[str]:
    *before, _ = incomplete.split(",")
    return [",".join([*before, name]) for name in names if name not in before]
