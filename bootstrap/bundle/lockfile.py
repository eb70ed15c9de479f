"""The lock file of `bundle create`: which bytes the published files and images were when they were first fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bootstrap import userfiles
from bootstrap.bundle.manifest import Digest
from bootstrap.errors import ConfigError
from bootstrap.spec import Model

NAME = "bundle.lock.json"


class Lock(Model):
    """Hex SHA-256 of files by their official address, and digests of images' manifests by reference and platform."""

    schema_version: Literal[1] = 1
    files: Mapping[str, Digest] = {}
    images: Mapping[str, Mapping[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]]] = {}


def read(path: Path) -> Lock:
    """Read the lock file at `path`; an empty one where there is none. Raises `ConfigError`."""
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'the document'}: {e['msg']}" for e in error.errors()]
        fix = "take it back from where it is kept, or remove it to trust what is published now"
        raise ConfigError("\n".join([f"{path} is no lock file of bundles; {fix}:", *lines])) from error


def write(path: Path, lock: Lock) -> bool:
    """Put `lock` at `path`, sorted, and say whether that changed anything. Raises `ConfigError`."""
    data = (json.dumps(lock.model_dump(by_alias=True), indent=2, sort_keys=True) + "\n").encode()
    try:
        return userfiles.write(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
