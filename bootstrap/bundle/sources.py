"""The sources of a bundle by the names that the command line has for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bootstrap.bundle import catalog, releases
from bootstrap.bundle.download import Client
from bootstrap.bundle.gomodules import GoModules
from bootstrap.bundle.releases import Releases
from bootstrap.bundle.source import Source
from bootstrap.errors import UsageError


def named(
    names: Sequence[str], client: Client, lock: Path, platform: str = catalog.PLATFORM, registry: str = ""
) -> list[Source]:
    """Give the sources `names`: `official`, `go-modules`, or a mirror's URL, whose registry may be at `registry`.

    Raises `UsageError`, which repeats no password.
    """
    if platform not in catalog.PLATFORMS:
        raise UsageError(f"--platform {platform}: choose one of {', '.join(catalog.PLATFORMS)}")
    found: list[Source] = []
    for name in names:
        if name == "official":
            found.append(Releases(client, lock, platform=platform))
        elif name == "go-modules":
            found.append(GoModules(platform))
        else:
            found.append(Releases(client, lock, releases.mirror(_url(name, "--source"), registry), platform))
    if registry:
        _url(registry, "--registry")
        if all(name in {"official", "go-modules"} for name in names):
            raise UsageError("--registry is the registry of a mirror; name the mirror with --source URL")
    return found


def _url(text: str, option: str) -> str:
    """Refuse what is no URL of a server, or has a login in it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 443)
    except ValueError:  # a port that is no number, as of a password with a slash; a bracket that is not closed
        usable = None
    if "@" in (parts.netloc if usable else text):
        where = text.rpartition("@")[2].partition("/")[0]
        raise UsageError(
            f"{option}: a login for {where} stands in the URL, where every user of this machine sees it; change the "
            "password, and put it into a file for --auth-file"
        )
    if not usable or parts.query or parts.fragment:
        choices = "official, go-modules or a URL as" if option == "--source" else "a URL as"
        raise UsageError(f"{option} {text}: write {choices} https://mirror.example/kubernetes")
    return text
