"""What would change, for people: unified diffs, and digests in the place of what is secret."""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bootstrap.render import to_yaml
from bootstrap.steps import Absent, Binary, Command, Directory, File, Image, Json, Link, Step

_CONTEXT = 3
_KEYS = (b"PRIVATE KEY-----", b"client-key-data:")
_PUBLIC = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PUBLIC KEY-----")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def of_step(step: Step, present: str, held: Mapping[str, bytes]) -> str:
    """Say what a step on a machine would change. `present` is as look.sh tells it, `held` what was read back.

    Of a secret file only digests are told, and that its key would be a new one. What nobody can read is told by digest.
    """
    kind, _, value = present.partition(":")
    if kind == "mode" and isinstance(step, File | Directory):
        mode, owner, group = value.split(":")
        return f"mode {mode} -> {step.mode:o}, owner {owner}:{group} -> 0:0"
    match step:
        case File():
            return _of_file(step, kind, value, held)
        case Link(target=target):
            return f"{_told(kind, value)} -> link to {target}"
        case Binary(digest=digest):
            return f"{_told(kind, value)} -> sha256:{digest}"
        case Image(target=target):
            return f"{target}"
        case Absent():
            return f"{_told(kind, value)} -> nothing"
        case Command():
            return ""
        case _:
            return ""


def of_objects(before: Json | None, after: Json | None) -> str:
    """Give the unified diff of two states of an object, as YAML; of a Secret's values only digests are told."""

    def lines(value: Json | None) -> list[str]:
        if value is None:
            return []
        return to_yaml(_without_secrets(value)).splitlines()

    told = unified(lines(before), lines(after))
    return told or "who owns which of its fields"


def unified(before: list[str], after: list[str], path: str = "") -> str:
    """Give the unified diff of two texts, without the names of files where there is no `path`."""
    found = list(difflib.unified_diff(before, after, path, path, lineterm="", n=_CONTEXT))
    return "\n".join(found if path else found[2:])


def _of_file(step: File, kind: str, value: str, held: Mapping[str, bytes]) -> str:
    drawn = held.get(step.path) != step.data
    if step.secret:
        new = f"sha256:{hashlib.sha256(step.data).hexdigest()}"
        if drawn and any(mark in step.data for mark in _KEYS):
            new = "new key"
        elif drawn and b"token:" in step.data:
            new = "new token"
        return f"{_told(kind, value)} -> {new}"
    if step.data.startswith(_PUBLIC):
        new = "new key" if b"PUBLIC KEY" in step.data[:40] else "new certificate"
        told = f"sha256:{hashlib.sha256(base64.b64decode(value)).hexdigest()}" if kind == "text" else _told(kind, value)
        if not drawn:
            return f"{told} -> sha256:{hashlib.sha256(step.data).hexdigest()}"
        return f"{told} -> {new}{_renamed(base64.b64decode(value), step.data) if kind == 'text' else ''}"
    before = base64.b64decode(value) if kind == "text" else b""
    try:
        told = unified(before.decode().splitlines(), step.data.decode().splitlines(), step.path)
    except UnicodeDecodeError:
        told = ""
    if kind in {"link", "sha256"}:
        return f"{_told(kind, value)} -> file\n{told}".rstrip()
    # Only the end of the last line differs, or it is no text.
    return told or f"{_told(kind, value)} -> sha256:{hashlib.sha256(step.data).hexdigest()}"


def _renamed(before: bytes, after: bytes) -> str:
    """Say which names a certificate has that the one before had not, and the other way round."""
    from bootstrap import pki

    had, has = pki.names_of(before), pki.names_of(after)
    added, gone = [name for name in has if name not in had], [name for name in had if name not in has]
    told = (("also for", added), ("no more for", gone))
    return "".join(f", {word} {', '.join(names)}" for word, names in told if names)


def _told(kind: str, value: str) -> str:
    match kind:
        case "sha256":
            return f"sha256:{value}"
        case "link":
            return f"link to {base64.b64decode(value).decode(errors='replace').rstrip()}"
        case "text":
            return f"sha256:{hashlib.sha256(base64.b64decode(value)).hexdigest()}"
        case _:
            return "nothing"


def _without_secrets(manifest: Json) -> dict[str, Any]:
    shown = json.loads(json.dumps(manifest))
    if shown.get("kind") == "Secret":
        for part in ("data", "stringData"):
            for key, value in (shown.get(part) or {}).items():
                shown[part][key] = f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        (shown["metadata"].get("annotations") or {}).pop(_LAST_APPLIED, None)
    return dict(shown)
