"""Writes docs/commands.md and the man page from the commands themselves: `python -m tools.commands_docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import bootstrap
from bootstrap import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "commands.md"
MAN_PAGE = ROOT / "docs" / "kubestrap.1"
EXIT_CODES = ROOT / "docs" / "exit-codes.md"
MARK = "<!-- generated from the commands by tools/commands_docs.py; what stands below is written anew each time -->\n"
EVERYWHERE = ("output", "help")
"""Parameters that every command has; they are described once."""
FILES = {
    "inventory.yaml": "The machines, and what the cluster is to be; -i names another file.",
    "~/.config/kubestrap/CLUSTER.kubeconfig": "The admin's kubeconfig (below XDG_CONFIG_HOME, where that is set).",
    "~/.local/state/kubestrap/logs/CLUSTER": "A log of each run, as JSON lines (below XDG_STATE_HOME).",
    "~/.cache/kubestrap/bundles": "The bundles that were built (below XDG_CACHE_HOME).",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A command: its words, how it is called, paragraphs of help, and parameters, each with its help."""

    words: str
    usage: str
    help: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]


def described() -> Iterator[Described]:
    """Describe every command that does something, in the order of the help."""
    top: Any = typer.main.get_command(cli.command())
    with top.make_context("kubestrap", [], resilient_parsing=True) as context:
        for name, command in top.commands.items():
            yield from _below(command, type(context)(command, info_name=name, parent=context))


def _below(command: Any, context: Any) -> Iterator[Described]:
    commands = getattr(command, "commands", {})
    if not commands or command.invoke_without_command:
        usage = command.get_usage(context).removeprefix("Usage: ").replace(" COMMAND [ARGS]...", "")
        paragraphs = (" ".join(part.split()) for part in (command.help or "").split("\n\n"))
        records = [
            param.get_help_record(context) for param in command.get_params(context) if param.name not in EVERYWHERE
        ]
        # Typer tells an argument's type by Python's name for it.
        named = ((re.sub(r" <(?:str|path|list\[str\])>$", "", name), text) for name, text in filter(None, records))
        yield Described(context.command_path, " ".join(usage.split()), tuple(paragraphs), tuple(named))
    for name, child in commands.items():
        yield from _below(child, type(context)(child, info_name=name, parent=context))


def document() -> str:
    """Give the document: what stands above the mark by hand, and the commands."""
    return DOCUMENT.read_text().partition(MARK)[0] + "\n".join([MARK, *_sections()])


def _sections() -> Iterator[str]:
    for command in described():
        yield f"## {command.words}\n"
        yield f"    {command.usage}\n"
        yield "\n\n".join(command.help) + "\n"
        if command.parameters:
            yield from (f"- `{name}`: {text}" for name, text in command.parameters)
            yield ""


def man_page() -> str:
    """Give the man page: roff, with the macros of man(7)."""
    return "\n".join(_man_lines()) + "\n"


def _man_lines() -> Iterator[str]:
    yield f'.TH KUBESTRAP 1 "" "kubestrap {bootstrap.__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"kubestrap \- turn bare machines into a Kubernetes cluster over SSH"
    yield ".SH SYNOPSIS"
    yield ".B kubestrap"
    yield r".I COMMAND"
    yield r"[\fIOPTION\fR...]"
    yield ".SH DESCRIPTION"
    yield _roff(
        "Machines are described in one file, the inventory. Commands tell what they do on stderr; stdout is data."
    )
    yield ".PP"
    yield _roff("Every command has --help, and --output text|json, which chooses how events and data are told.")
    yield ".SH COMMANDS"
    for command in described():
        yield f".SS {_roff(command.usage)}"
        for number, paragraph in enumerate(command.help):
            if number:
                yield ".PP"
            yield _roff(paragraph)
        for name, text in command.parameters:
            yield from (".TP", rf"\fB{_roff(name)}\fR", _roff(text))
    yield ".SH EXIT STATUS"
    for code, meaning in re.findall(r"^\| (\d+) \| (.*?) \|", EXIT_CODES.read_text(), re.MULTILINE):
        yield from (".TP", rf"\fB{code}\fR", _roff(meaning.replace("`", "")))
    yield ".SH FILES"
    for name, text in FILES.items():
        yield from (".TP", rf"\fI{_roff(name)}\fR", _roff(text))
    yield ".SH SEE ALSO"
    yield r".BR ssh (1),"
    yield r".BR ssh_config (5)"


def _roff(text: str) -> str:
    """Write `text` so that roff shows it as it is, also at the beginning of a line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("~", r"\(ti")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def main() -> None:
    """Write both files."""
    DOCUMENT.write_text(document())
    MAN_PAGE.write_text(man_page())


if __name__ == "__main__":
    main()
