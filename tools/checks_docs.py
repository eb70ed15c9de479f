"""Writes docs/checks.md from the checks themselves: `python -m tools.checks_docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootstrap import verify

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "checks.md"
MARK = "<!-- generated from bootstrap/verify by tools/checks_docs.py; what stands below is written anew each time -->\n"
MADE = {
    "all": "every machine",
    "node": "every Node",
    "control-plane": "control-plane machines",
    "control-plane, etcd": "machines of the control plane and of etcd",
    "etcd": "machines that run etcd",
    "worker": "workers",
    "cluster": "once, from a control plane that serves",
}


def document() -> str:
    """Give the document: what stands above the mark by hand, and the table."""
    return DOCUMENT.read_text().partition(MARK)[0] + "\n".join([MARK, *table()]) + "\n"


def table() -> Iterator[str]:
    """Give a row for each check, in the order in which they are made."""
    yield "| check | made on | what is true where it passes |"
    yield "| --- | --- | --- |"
    for name, on, text in verify.describe():
        yield f"| `{name}` | {MADE[on]} | {text} |"


def main() -> None:
    """Write it."""
    DOCUMENT.write_text(document())


if __name__ == "__main__":
    main()
