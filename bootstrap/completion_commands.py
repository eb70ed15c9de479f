"""`kubestrap completion`: what a shell needs to complete command lines."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bootstrap.options import OutputOption

app = typer.Typer()


class Shell(StrEnum):
    """A shell that can ask for completions."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="For which shell.")], *, output: OutputOption) -> None:
    """Print a script by which a shell completes commands, hosts, phases and mistakes.

    In bash: source <(kubestrap completion bash). In zsh the same, after compinit. In fish: kubestrap completion fish |
    source.
    """
    from bootstrap import completing

    script = completing.script(shell.value)
    output.result({"script": script}, script)
