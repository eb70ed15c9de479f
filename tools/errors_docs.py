"""Writes docs/errors, a page for each kind of mistake, and the tables of exit codes and of preflight's checks.

They are made from bootstrap/mistakes.yaml and bootstrap/explanations.yaml: `python -m tools.errors_docs`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from bootstrap import explaining, inventory, mistakes
from bootstrap.mistakes import Mistake

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "errors"
BEGIN = "<!-- made from bootstrap/explanations.yaml by tools/errors_docs.py -->\n\n"
END = "\n<!-- end of what is made -->\n"
MADE = "<!-- made from bootstrap/mistakes.yaml by tools/errors_docs.py -->\n"


def pages() -> dict[str, str]:
    """Give every page by the name of its file."""
    known = mistakes.catalogue()
    made = {f"{name}.md": page(mistake) for name, mistake in known.items()}
    return {"README.md": index(known), **made}


def index(known: dict[str, Mistake]) -> str:
    """Give the page that leads to all others."""
    lines = [
        f"{MADE}\n# Mistakes in an inventory\n",
        "Each message about an inventory ends with the kind of the mistake in brackets. `kubestrap explain ID` shows",
        "what its page says.",
    ]
    for area, members in groupby(known.values(), lambda mistake: mistake.area):
        lines += [f"\n## {area}\n", "| id | what it means |", "| --- | --- |"]
        lines += [f"| [{mistake.id}]({mistake.id}.md) | {mistake.means} |" for mistake in members]
    return "\n".join(lines) + "\n"


def page(mistake: Mistake) -> str:
    """Give the page of one kind of mistake, with the message that its wrong example gets."""
    parts = [f"{MADE}\n# {mistake.id}\n\n{mistake.means} {mistake.why}\n\n**What to do**: {mistake.fix}\n"]
    if mistake.wrong is not None:
        parts.append(f"## Wrong\n\n{_block('text', mistake.wrong)}")
    parts.append(f"The message{'' if mistake.wrong is None else ' of it'}:\n\n{_block('text', message(mistake))}")
    parts.append(f"## Right\n\n{_block('yaml', mistake.right)}")
    for path, text in mistake.files.items():
        parts.append(f"With the file `{path}` beside it:\n\n{_block('yaml', text)}")
    return "\n".join([*parts, "[All kinds of mistakes](README.md)\n"])


def tables() -> dict[Path, str]:
    """Give the documents that have a table between marks, as they should be."""
    codes = [(str(told.code), told.means, told.fix) for told in explaining.exit_codes()]
    checks = [
        (", ".join(f"`{name}`" for name in check.names), check.must, check.otherwise)
        for check in explaining.preflight_checks()
    ]
    return {
        DOCS / "exit-codes.md": _with_table(DOCS / "exit-codes.md", ("code", "meaning", "what to do"), codes),
        DOCS / "preflight.md": _with_table(DOCS / "preflight.md", ("name", "what must be", "otherwise"), checks),
    }


def _with_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, ["---"] * len(head), *rows)]
    return "".join([before, begin, *(f"{line}\n" for line in lines), end, after])


def message(mistake: Mistake) -> str:
    """Load the wrong example, and give what is told of it."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(mistake, mistake.wrong, Path(folder))
        try:
            inventory.load(Path(folder) / "inventory.yaml")
        except inventory.InventoryError as refused:
            told = "".join(f"{problem}\n" for problem in refused.problems)
            return re.sub(rf"{re.escape(folder)}/", "", told)
    raise ValueError(f"the wrong example of {mistake.id} is not refused")


def lay_out(mistake: Mistake, example: str | None, folder: Path) -> Path:
    """Write an example with its files into `folder`, and give where the inventory is, or would be."""
    path = folder / "inventory.yaml"
    if example is not None:
        path.write_text(example, encoding="utf-8")
    for name, text in mistake.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return path


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}```\n"


def main() -> None:
    """Write the pages and tables, and remove those of kinds that there are no more."""
    made = pages()
    FOLDER.mkdir(exist_ok=True)
    for path in set(FOLDER.iterdir()) - {FOLDER / name for name in made}:
        path.unlink()
    for path, text in {**{FOLDER / name: text for name, text in made.items()}, **tables()}.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
