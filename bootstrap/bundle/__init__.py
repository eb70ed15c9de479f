"""The bundle: everything a machine needs for one Kubernetes version and platform, each file with its digest.

`open_bundle` is what the rest of the program uses; `build` (`bootstrap.bundle.build`) makes one from a source.
"""

from bootstrap.bundle.reader import Bundle, open_bundle

__all__ = ["Bundle", "open_bundle"]
