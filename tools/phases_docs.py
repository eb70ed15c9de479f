"""Writes docs/phases.md, and the names that shells complete, from the phases: `python -m tools.phases_docs`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bootstrap import completing, outline, plan

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "phases.md"
NAMES = ROOT / "bootstrap" / completing.PHASE_NAMES
MARK = "<!-- generated from phases/ by tools/phases_docs.py; what stands below is written anew each time -->\n"
ON = {
    "all": "every host",
    "control-plane": "control-plane hosts",
    "control-plane, etcd": "hosts of the control plane and of etcd",
    "etcd": "hosts that run etcd",
    "worker": "workers",
    "cluster": "once, from the first control-plane host",
}


def names() -> str:
    """Give the text of the file of names: by workflow, groups and phases in order."""
    found = {workflow: [plan.PREFLIGHT, *plan.names(phases)] for workflow, phases in outline.WORKFLOWS.items()}
    return json.dumps(found, indent=1) + "\n"


def document() -> str:
    """Give the document: what stands above the mark by hand, and the phases."""
    return DOCUMENT.read_text().partition(MARK)[0] + "\n".join([MARK, *sections()])


def sections() -> Iterator[str]:
    """Give a section for each workflow."""
    for workflow, phases in outline.WORKFLOWS.items():
        yield f"## {workflow}\n"
        for phase in phases:
            yield f"### {workflow}: {phase.name}\n"
            yield f"{phase.help} Done on: {ON[phase.on]}.\n"
            written = outline.writes(phase.name, workflow)
            yield from (f"- {line}" for line in written)
            if written:
                yield ""


def main() -> None:
    """Write both files."""
    DOCUMENT.write_text(document())
    NAMES.write_text(names())


if __name__ == "__main__":
    main()
