"""Reading a folder of patches, in kubeadm's form: `target[suffix][+type].{yaml,json}` (kubeadm: util/patches).

Files are taken in the order of their names. Where kubeadm passes a file over that looks like a patch, it is refused
here: a patch that is not applied is found out late.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from bootstrap import patching, yamlfile
from bootstrap.patching import Kind, Patch
from bootstrap.values import shown
from bootstrap.yamlfile import Document, Finding, Place

_NAME = re.compile(rf"({'|'.join(patching.TARGETS)})([^.+]*)(\+([^.]*))?\.(json|yaml)")
_TARGET = re.compile(rf"({'|'.join(patching.TARGETS)})")
_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}


def read(files: Iterable[tuple[str, str, bytes]]) -> tuple[list[Patch], list[Finding]]:
    """Give the patches of `files` (name, what messages call it, contents), and every mistake in them.

    What is no patch by its name (a README) is left out.
    """
    patches: list[Patch] = []
    findings: list[Finding] = []
    for name, told, source in sorted(files):
        for found in _file(name, told, source):
            if isinstance(found, Patch):
                patches.append(found)
            else:
                findings.append(found)
    return patches, findings


def is_patch(path: Path) -> bool:
    """Say whether a file is a patch by its name, or looks as if it was meant to be one."""
    return not path.name.startswith(".") and (
        path.suffix in {".json", ".yaml", ".yml"} or _TARGET.match(path.name) is not None
    )


def _file(name: str, told: str, source: bytes) -> Iterator[Patch | Finding]:
    matched = _NAME.fullmatch(name)
    kind = _KINDS.get((matched[4] if matched[3] else "strategic") or "") if matched else None
    if not matched or not kind:
        yield _misnamed(name, told)
        return
    for document in yamlfile.read_stream(source):
        findings = [
            *(dataclasses.replace(finding, place=_in(finding.place, told)) for finding in document.findings),
            *(() if document.findings else _form(document, kind, told)),
        ]
        yield from findings
        if not findings:
            places = {path: (place.line, place.column) for path, place in {**document.values, **document.keys}.items()}
            yield Patch(told, matched[1], kind, document.data, places)


def _misnamed(name: str, told: str) -> Finding:
    here = Place(1, 1, told)
    form = "target[suffix][+type].yaml or .json, as in kube-apiserver0+strategic.yaml"
    matched = _TARGET.match(name)
    if matched is None:
        stem = re.split(r"[.+]", name)[0]
        near = difflib.get_close_matches(stem, patching.TARGETS, 1, 0.5)
        fix = f"did you mean {near[0]}?" if near else f"name it {form}, or keep it elsewhere"
        why = f"there are {', '.join(patching.TARGETS)}"
        return Finding("inventory-bad-patch", here, (), f"{shown(name)} names nothing that can be patched", why, fix)
    if not name.endswith((".json", ".yaml")):
        what = f"{shown(name)} is not read: a patch ends in .yaml or .json"
        return Finding("inventory-bad-patch", here, (), what, "kubeadm passes it over", f"name it {form}")
    what = f"{shown(name)} does not tell of which type the patch is"
    why = f"after + stands {', '.join(patching.KINDS)}; without + it is strategic"
    return Finding("inventory-bad-patch", here, (), what, why, f"name it {form}")


def _form(document: Document, kind: Kind, told: str) -> Iterator[Finding]:
    data = document.data
    if kind != "json":
        if not isinstance(data, dict):
            yield _wrong(document, (), told, "a patch of this type is a mapping", "write the fields that change")
        return
    if not isinstance(data, list):
        fix = "write - {op: ..., path: ...}, or name the file +strategic"
        yield _wrong(document, (), told, "a JSON patch is a list of operations", fix)
        return
    for index, operation in enumerate(data):
        if mistake := patching.operation_mistake(operation):
            path, what = mistake
            yield _wrong(document, (index, *path), told, what, "see RFC 6902")


def _wrong(document: Document, path: yamlfile.Path, told: str, what: str, fix: str) -> Finding:
    place = document.keys.get(path, document.place(path))
    return Finding("inventory-bad-patch", _in(place, told), (), what, "", fix)


def _in(place: Place, file: str) -> Place:
    return dataclasses.replace(place, file=file)
