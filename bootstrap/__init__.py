"""Kubestrap: turn bare machines into a Kubernetes cluster over SSH.

The library is what `__all__` names (docs/library.md); it is loaded where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["BootstrapError", "Cluster", "HostsFailed", "InventoryError", "Request"]

if TYPE_CHECKING:
    from bootstrap.errors import BootstrapError, HostsFailed
    from bootstrap.gather import Request
    from bootstrap.inventory import InventoryError
    from bootstrap.library import Cluster
else:

    def __getattr__(name):
        """Load the module that has a name of the library."""
        from importlib import import_module

        places = {
            "BootstrapError": "errors",
            "Cluster": "library",
            "HostsFailed": "errors",
            "InventoryError": "inventory",
            "Request": "gather",
        }
        if name not in places:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{places[name]}"), name)
