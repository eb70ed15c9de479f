"""Which tool a file is of."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bootstrap.importing import ansible, files, k0sctl, kubeone, terraform
from bootstrap.importing.draft import Draft, Imported, ImportRefused


def read(path: Path, standard_input: str | None = None) -> Imported:
    """Make an inventory of a file or a folder of Ansible's, or of what came as standard input.

    Raises `ImportRefused` where it is not understood, or would not be valid.
    """
    if standard_input is None and path.is_dir():
        return ansible.folder(path)
    name = "stdin" if standard_input is not None else str(path)
    text = files.content(path, name) if standard_input is None else standard_input
    if path.suffix == ".ini" or re.search(r"^\[[^\]\s]+\][ \t]*(#.*)?$", text, re.MULTILINE):
        return ansible.file(path, text, name)
    data = files.parse(text, name)
    if data is None:
        why = "it holds nothing but blanks and comments"
        raise ImportRefused("import-empty", name, "the file is empty", why, "name another file")
    draft = _reader(data)
    if draft is not None:
        return draft(data, name).finish()
    if isinstance(data, dict) and data and all(value is None or isinstance(value, dict) for value in data.values()):
        return ansible.file(path, text, name)
    raise ImportRefused(
        "import-unknown-format",
        name,
        "it is of no known form",
        "read are inventories of Ansible (INI or YAML), terraform output -json, k0sctl.yaml and KubeOneCluster",
        "name such a file, or a folder of Ansible's",
    )


def _reader(data: Any) -> Callable[[Any, str], Draft] | None:
    if not isinstance(data, dict):
        return None
    version = str(data.get("apiVersion", ""))
    if version.startswith("k0sctl.k0sproject.io/"):
        return k0sctl.draft
    if version.startswith("kubeone."):
        return kubeone.draft
    return terraform.draft if terraform.is_output(data) else None
