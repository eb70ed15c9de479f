"""`kubestrap explain`: what is meant by what messages name in brackets, and by the checks of verify."""

from __future__ import annotations

import dataclasses
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
            help="The kind of a mistake, or a check.", show_default=False, autocompletion=completing.explained
        ),
    ] = "",
    *,
    output: OutputOption,
) -> None:
    """Explain a kind of mistake in an inventory, or a check of verify.

    Messages about an inventory end with the kind of the mistake, in brackets. Without a name, all are listed.
    """
    from difflib import get_close_matches

    from bootstrap import mistakes, verify
    from bootstrap.errors import UsageError

    known = mistakes.catalogue()
    if mistake := known.get(name.strip("[]")):
        output.result(dataclasses.asdict(mistake), mistakes.text(mistake))
        return
    checks = {check: (on, says) for check, on, says in verify.describe()}
    if not name:
        kinds = [{"id": kind.id, "area": kind.area, "means": kind.means} for kind in known.values()]
        listed = [{"id": check, "on": on, "text": says} for check, (on, says) in checks.items()]
        lines = [f"{kind.id}  {kind.means}" for kind in known.values()]
        lines += [f"{check}  {says}" for check, (_, says) in checks.items()]
        output.result({"mistakes": kinds, "checks": listed}, "\n".join(lines))
    elif name in checks:
        on, says = checks[name]
        output.result({"id": name, "on": on, "text": says}, f"{name}\n\nA check of verify, made on {on}: {says}")
    else:
        near = get_close_matches(name, [*known, *checks], 1)
        guess = f"did you mean {near[0]}?" if near else "kubestrap explain lists all that there are"
        raise UsageError(f'"{name}" is no kind of mistake and no check; {guess}')
