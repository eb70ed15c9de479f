"""Phases whose files are kept before they are changed, so that they can be put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING

from bootstrap.plan import Phase
from bootstrap.steps import Fallback, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site


def kept(phase: Phase, fallback: Callable[[Site, Node], Fallback]) -> Phase:
    """Give `phase` with `fallback` for those of its files that it names."""

    @wraps(phase.steps)
    def steps(site: Site, node: Node) -> Iterator[Step]:
        former = fallback(site, node)
        for step in phase.steps(site, node):
            if isinstance(step, File) and step.path in former.paths:
                yield replace(step, fallback=former)
            else:
                yield step

    return replace(phase, steps=steps)
