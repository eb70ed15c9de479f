"""`kubestrap explain`: what is meant by the names and numbers that messages, events and scripts have of troubles."""

from __future__ import annotations

from typing import Annotated

import typer

from bootstrap import completing
from bootstrap.options import OutputOption

app = typer.Typer()


@app.command()
def explain(
    name: Annotated[
        str,
        typer.Argument(
            help="A mistake, a check, an exit code or a kind of error.",
            show_default=False,
            autocompletion=completing.explained,
        ),
    ] = "",
    *,
    output: OutputOption,
) -> None:
    """Explain a mistake in an inventory, a check, an exit code, an error.

    Messages about an inventory end with the name of the mistake, in brackets; preflight and verify name their checks;
    kinds of errors are those of --output json. Without a name, all are listed.
    """
    from difflib import get_close_matches

    from bootstrap import explaining
    from bootstrap.errors import UsageError

    known = explaining.everything()
    if not name:
        listed = [{"id": one.id, "group": one.group, "means": one.line} for one in known]
        output.result({"names": listed}, "\n".join(f"{one.id}  {one.line}" for one in known))
    elif found := explaining.find(name, known):
        output.result({"group": found.group, **found.data}, found.text)
    else:
        near = get_close_matches(name, [one.id for one in known], 1)
        guess = f"did you mean {near[0]}?" if near else "kubestrap explain lists all names"
        raise UsageError(f'"{name}" is no mistake, check, exit code or kind of error; {guess}')
