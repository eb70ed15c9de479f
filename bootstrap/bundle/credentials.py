"""Logins for registries and mirrors, from a file of Docker's form (`config.json`), which podman writes, too."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.errors import ConfigError
from bootstrap.values import REGISTRY_SERVERS

_DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """`basic` is the value of an Authorization header; `identity_token` is for the server that gives tokens."""

    basic: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The logins by host (and port, where it is not the usual one)."""

    logins: Mapping[str, Login] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    """Programs that hold the logins of hosts, which are not run; `""` is for all others."""
    file: str = ""

    def of(self, host: str) -> Login:
        """Give the login for `host`; an empty one where there is none.

        Raises `ConfigError` where a program of its own holds it.
        """
        names = (host, *_DOCKER_HUB_KEYS) if host == REGISTRY_SERVERS["docker.io"] else (host,)
        for name in names:
            if name in self.logins:
                return self.logins[name]
        helper = next((self.helpers[name] for name in (*names, "") if name in self.helpers), "")
        if helper:
            raise ConfigError(
                f"{self.file}: the login for {host} is kept by the program docker-credential-{helper}, which is not "
                "run; write it into a file of the same form, with `auths`, and name that with --auth-file"
            )
        return Login()


def read(path: Path | None, *, name: str = "") -> Credentials:
    """Read `path`, which messages call `name`; None is `${DOCKER_CONFIG:-~/.docker}/config.json`, which may be absent.

    Raises `ConfigError`, which tells nothing of what is in the file.
    """
    file = path or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if path is None and not file.exists():
        return Credentials()
    name = name or str(file)
    try:
        told: Any = json.loads(file.read_bytes())
        auths = {str(key): value for key, value in told.get("auths", {}).items()}
        helpers = {str(key): str(value) for key, value in told.get("credHelpers", {}).items()}
        store = str(told.get("credsStore", ""))
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{name}: it is not a file of Docker's form, with logins under `auths`") from error
    # A program that holds logins leaves an empty entry for each; the program's own word is then all there is.
    logins = {_host(key): _login(name, key, value) for key, value in auths.items() if value}
    return Credentials(logins, {**helpers, **({"": store} if store else {})}, name)


def image_host(key: str) -> str:
    """Give the host as it stands in the names of images, for a key of `Credentials.logins`."""
    return "docker.io" if key in _DOCKER_HUB_KEYS else key


def _host(key: str) -> str:
    """Docker's own key is an address; others may be, too."""
    return key if key in _DOCKER_HUB_KEYS else key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _login(file: str, key: str, value: Any) -> Login:
    try:
        name, password = value.get("username", ""), value.get("password", "")
        if value.get("auth"):
            name, _, password = base64.b64decode(value["auth"], validate=True).decode().partition(":")
        basic = f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}" if name else ""
        return Login(basic, str(value.get("identitytoken", "")))
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise ConfigError(
            f"{file}: auths[{key}]: `auth` must be user:password in base64, or `username` and `password` text"
        ) from None
