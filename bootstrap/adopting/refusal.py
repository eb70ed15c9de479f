"""Why a cluster cannot be adopted."""

from __future__ import annotations

from typing import Literal

from bootstrap.errors import Problem

AdoptId = Literal[
    "adopt-architecture",
    "adopt-broken",
    "adopt-no-api",
    "adopt-no-control-plane",
    "adopt-no-node",
    "adopt-not-kubeadm",
    "adopt-other-cluster",
    "adopt-port",
    "adopt-runtime",
    "adopt-twice",
    "adopt-version",
]
"""Every reason why a cluster is not adopted; docs/adopt.md explains them."""


def mistake(kind: AdoptId, host: str, what: str, fix: str) -> Problem:
    """Give a reason not to adopt a cluster."""
    return Problem(host, kind, "error", what, fix)
