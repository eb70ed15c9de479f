"""What the package needs of others where it runs, as it is installed here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def needed(*extras: str) -> list[Distribution]:
    """List the distributions that kubestrap with `extras` needs, and those that they need, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    found: dict[str, Distribution] = {}
    _collect(asked, found)
    return [found[name] for name in sorted(found)]


def files(installed: Distribution) -> Iterator[tuple[str, Path]]:
    """Give the files of a distribution: their path below site-packages, and where they are. Scripts are left out."""
    for file in installed.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            yield file.as_posix(), Path(str(file.locate()))


def _collect(asked: Iterable[str], found: dict[str, Distribution], extra: str = "") -> None:
    for requirement in map(Requirement, asked):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = distribution(requirement.name)
        if requirement.name.lower() not in found:
            found[requirement.name.lower()] = installed
            _collect(installed.requires or (), found)
        for wanted in requirement.extras:
            _collect(installed.requires or (), found, wanted)
