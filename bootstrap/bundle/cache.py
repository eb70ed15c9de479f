"""Folders outside of any checkout: bundles, Go's caches, built programs, and which blobs were found to be right."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def folder() -> Path:
    """Give `${XDG_CACHE_HOME:-~/.cache}/kubestrap`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "kubestrap"


def bundle(kubernetes_version: str, platform: str) -> Path:
    """Give where `kubestrap bundle build` puts the bundle of this version and platform."""
    return folder() / "bundles" / f"{kubernetes_version}-{platform.replace('/', '-')}"


def recall(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Give the stamps that the blobs of the bundle at `path` had when their digests were right, by digest."""
    try:
        known = json.loads(_verified(path).read_bytes())
        return {str(digest): tuple(int(number) for number in stamp) for digest, stamp in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing known: the blobs are read again


def remember(path: Path, stamps: Mapping[str, tuple[int, ...]]) -> None:
    """Keep for `recall` that these blobs were right. Where the cache cannot be written, they are read again."""
    file = _verified(path)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "w") as stream:
            json.dump(stamps, stream)
        Path(temporary).replace(file)


def _verified(path: Path) -> Path:
    return folder() / "verified" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
