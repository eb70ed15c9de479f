"""How to log in to a host: the inventory's settings, then ~/.ssh/config, then OpenSSH's defaults (ssh_config(5))."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko

from bootstrap import spec
from bootstrap.errors import ConfigError
from bootstrap.transport import known_hosts

_SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_INCLUDE_DEPTH = 16  # OpenSSH's own limit
_JUMP_DEPTH = 8
_PERCENT = "\x01"
_EXPLAINED = frozenset(
    {
        "certificatefile",
        "connecttimeout",
        "hostkeyalias",
        "hostname",
        "identitiesonly",
        "identityagent",
        "identityfile",
        "port",
        "proxycommand",
        "proxyjump",
        "stricthostkeychecking",
        "user",
        "userknownhostsfile",
    }
)
_HOP = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<name>[^:]+))(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Login:
    """One SSH server and how to log in to it.

    `alias` is what the user calls it (a `Host` of his configuration), `backend` who speaks SSH with it.
    `identity_files` are tried in order; `named_identities` says that the user named them (else they are OpenSSH's
    defaults, of which most do not exist). `certificate_files` are those that he named, besides those that lie beside
    the keys. `agent` is where the agent listens, empty for none. `known_as` is the name to look for in
    `known_hosts_files`; `accept_new` says to add a server's key to the first of them where nothing is known of it, and
    `pin` is the key that it must have whatever they say. `jumps` are the servers to go through, in order.
    `proxy_command` is a command whose standard input and output are the way to the server. `pkcs11` says that keys are
    taken from a token by a library of the user's (PKCS11Provider), as `backend` openssh alone can.
    """

    alias: str
    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    named_identities: bool
    identities_only: bool
    certificate_files: tuple[Path, ...]
    agent: str
    known_hosts_files: tuple[Path, ...]
    known_as: str
    connect_seconds: float
    pin: str = ""
    accept_new: bool = False
    hash_known_hosts: bool = False
    proxy_command: str = ""
    backend: spec.SshBackend = "paramiko"
    pkcs11: bool = False
    jumps: tuple[Login, ...] = ()

    @property
    def place(self) -> str:
        """The server for messages: `address port 22`."""
        return f"{self.address} port {self.port}"


def login(inventory: spec.Inventory, host: spec.Host) -> Login:
    """Settle how to log in to `host`. Raises `ConfigError` for an OpenSSH configuration that cannot be read."""
    own = spec.effective_ssh(inventory, host)
    timeout_is_set = "connect_timeout" in inventory.ssh.model_fields_set or host.ssh.connect_timeout is not None
    try:
        found = _login(_read_config(), host.address, own, own.connect_timeout if timeout_is_set else None, depth=0)
        return replace(found, pin=host.host_key or "")
    except (paramiko.SSHException, ValueError, KeyError) as error:
        raise ConfigError(f"~/.ssh/config: what it says about {host.address} cannot be used: {error}") from error


def split_server(text: str) -> tuple[str | None, str, int | None] | None:
    """Give user, address and port of `[user@]address[:port]`, an IPv6 address in brackets; None where it is no such."""
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    return match["user"], match["bracketed"] or match["name"], int(match["port"]) if match["port"] else None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of how to log in to a host: its name in ssh_config, its value, and where that comes from."""

    name: str
    value: str
    source: str


def explain(inventory: spec.Inventory, host: spec.Host) -> tuple[Setting, ...]:
    """Tell how to log in to `host`, and where each setting comes from: `ssh.port` and its like are the inventory's.

    Raises `ConfigError` as `login` does.
    """
    found = login(inventory, host)
    places = _places(host.address)
    at = f"hosts[{inventory.hosts.index(host)}]"

    def source(keyword: str, attribute: str = "", otherwise: str = "built-in") -> str:
        for model, path in ((host.ssh, f"{at}.ssh"), (inventory.ssh, "ssh")):
            if attribute in model.model_fields_set and getattr(model, attribute) is not None:
                return f"{path}.{spec.camel(attribute)}"
        return places.get(keyword.lower(), otherwise)

    def files(paths: Iterable[Path]) -> str:
        return " ".join(shlex.quote(str(path)) for path in paths) or "none"

    agent_source = source("IdentityAgent", otherwise="SSH_AUTH_SOCK" if found.agent else "built-in")
    hops = ",".join(f"{hop.user}@{known_hosts.name_with_port(hop.address, hop.port)}" for hop in found.jumps)
    sudo_file = spec.effective_ssh(inventory, host).sudo_password_file
    return (
        Setting("HostName", found.address, source("HostName", otherwise=f"{at}.address")),
        Setting("Port", str(found.port), source("Port", "port")),
        Setting("User", found.user, source("User", "user")),
        Setting("ProxyJump", hops or "none", source("ProxyJump", "proxy_jump")),
        Setting("ProxyCommand", found.proxy_command or "none", source("ProxyCommand" if found.proxy_command else "")),
        Setting("IdentityFile", files(found.identity_files), source("IdentityFile", "identity_file")),
        Setting("CertificateFile", files(found.certificate_files), source("CertificateFile")),
        Setting("IdentitiesOnly", _yes(found.identities_only), source("IdentitiesOnly")),
        Setting("IdentityAgent", found.agent or "none", agent_source),
        Setting("UserKnownHostsFile", files(found.known_hosts_files), source("UserKnownHostsFile", "known_hosts_file")),
        Setting("HostKeyAlias", found.known_as, source("HostKeyAlias", otherwise="built-in")),
        Setting(
            "StrictHostKeyChecking",
            "accept-new" if found.accept_new else "yes",
            source("StrictHostKeyChecking", "accept_new_host_keys") if found.accept_new else "built-in",
        ),
        Setting("hostKey", found.pin or "none", f"{at}.hostKey" if found.pin else "built-in"),
        Setting("ConnectTimeout", f"{found.connect_seconds:g}", source("ConnectTimeout", "connect_timeout")),
        Setting("backend", found.backend, source("", "backend")),
        Setting("sudoPasswordFile", sudo_file or "none", source("", "sudo_password_file")),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _places(alias: str) -> dict[str, str]:
    """Give where the user's configuration sets what holds for `alias`, by keyword: `~/.ssh/config:3`."""
    # Match looks at these two, so that their values must stay while the others give way to their places.
    shown = frozenset({"hostname", "user"})
    places: dict[str, str] = {}
    for marked in (shown, _EXPLAINED - shown):
        found = _read_config(marked).lookup(alias)
        for keyword in marked & set(found):
            value: str | list[str] = found[keyword]
            places[keyword] = value if isinstance(value, str) else ", ".join(value)
    if places.get("hostname") == alias:
        del places["hostname"]  # paramiko gives one in any case
    return {keyword: place.replace(f"{Path.home()}/", "~/") for keyword, place in places.items()}


def _login(
    config: paramiko.SSHConfig, alias: str, own: spec.HostSsh, connect_timeout: str | None, *, depth: int
) -> Login:
    found = config.lookup(alias)
    address = found.get("hostname", alias)
    port = own.port or _number(found.get("port", "22"), "Port", alias)
    user = own.user or found.get("user") or getpass.getuser()
    named = _identity_files(own, found)
    seconds = spec.seconds(connect_timeout) if connect_timeout else _time(found.get("connecttimeout", "10"), alias)
    jump = own.proxy_jump or found.get("proxyjump") or "none"
    command = "" if own.proxy_jump or jump != "none" else found.get("proxycommand") or ""
    tokens = {"%h": address, "%p": str(port), "%r": user, "%n": alias, "%u": getpass.getuser(), "%d": str(Path.home())}
    return Login(
        alias=alias,
        address=address,
        port=port,
        user=user,
        identity_files=named or tuple(Path.home() / ".ssh" / f"id_{kind}" for kind in ("ed25519", "ecdsa", "rsa")),
        named_identities=bool(named),
        identities_only=found.get("identitiesonly", "no") == "yes",
        certificate_files=tuple(
            Path(_expanded(name, tokens)) for name in shlex.split(found.get("certificatefile", "")) if name != "none"
        ),
        agent=_agent(found.get("identityagent", "SSH_AUTH_SOCK"), tokens),
        known_hosts_files=_known_hosts_files(own, found, tokens),
        known_as=found.get("hostkeyalias", address),
        connect_seconds=float(seconds),
        accept_new=own.accept_new_host_keys or found.get("stricthostkeychecking") == "accept-new",
        hash_known_hosts=found.get("hashknownhosts") == "yes",
        proxy_command=_filled_in(command.replace(_PERCENT, "%"), tokens),
        backend=own.backend or "paramiko",
        pkcs11=found.get("pkcs11provider", "none") != "none",
        jumps=() if jump == "none" else _jumps(config, jump, own, connect_timeout, depth=depth + 1),
    )


def _jumps(
    config: paramiko.SSHConfig, text: str, own: spec.HostSsh, connect_timeout: str | None, *, depth: int
) -> tuple[Login, ...]:
    """Settle each jump host: as its own Host block says, with the inventory's key and known hosts."""
    if depth > _JUMP_DEPTH:
        raise ConfigError(
            f"ProxyJump {text}: more than {_JUMP_DEPTH} jump hosts in a row; do they point at each other?"
        )
    logins: list[Login] = []
    for index, hop in enumerate(text.split(",")):
        parts = split_server(hop.strip())
        if parts is None:
            raise ConfigError(f"ProxyJump {text}: {hop!r} is not user@host:port")
        user, address, port = parts
        settings = spec.HostSsh(
            user=user,
            port=port,
            identity_file=own.identity_file,
            known_hosts_file=own.known_hosts_file,
            accept_new_host_keys=own.accept_new_host_keys,
            backend=own.backend,
            # OpenSSH follows the configuration of the first hop only; each later one is reached from the one before.
            proxy_jump=None if index == 0 else "none",
        )
        one = _login(config, address, settings, connect_timeout, depth=depth)
        logins.extend((*one.jumps, one))
    return tuple(logins)


def _identity_files(own: spec.HostSsh, found: dict[str, str]) -> tuple[Path, ...]:
    if own.identity_file:
        return (Path(own.identity_file).expanduser(),)
    named: Iterable[str] = found.get("identityfile", ())  # a list, whatever the stubs say: the keyword may repeat
    return tuple(Path(name).expanduser() for name in named if name.lower() != "none")


def _known_hosts_files(own: spec.HostSsh, found: dict[str, str], tokens: dict[str, str]) -> tuple[Path, ...]:
    if own.known_hosts_file:
        return (Path(own.known_hosts_file).expanduser(),)
    users = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    everyone = found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    names = [*shlex.split(users), *shlex.split(everyone)]
    return tuple(Path(_expanded(name, tokens)) for name in names if name.lower() != "none")


def _agent(setting: str, tokens: dict[str, str]) -> str:
    """Give where the agent listens that IdentityAgent names; empty for none."""
    if setting == "none":
        return ""
    if setting == "SSH_AUTH_SOCK" or setting.startswith("$"):
        return os.environ.get(setting.removeprefix("$").strip("{}"), "")
    return _expanded(setting, tokens)


def _expanded(name: str, tokens: dict[str, str]) -> str:
    """Fill in a file name as OpenSSH does: `%h` and its like, and a home folder."""
    return str(Path(_filled_in(name, tokens)).expanduser())


def _filled_in(text: str, tokens: dict[str, str]) -> str:
    return re.sub(r"%.", lambda match: {**tokens, "%%": "%"}.get(match[0], match[0]), text)


def config_files() -> tuple[Path, ...]:
    """Give the files of OpenSSH's client, the user's first."""
    return Path.home() / ".ssh/config", _SYSTEM_CONFIG


def _read_config(marked: Set[str] = frozenset()) -> paramiko.SSHConfig:
    """Read the configuration. The values of `marked` keywords are replaced by their places."""
    config = paramiko.SSHConfig()
    for file in config_files():
        try:
            config.parse(_lines(file, file.parent, 0, marked))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        except (paramiko.ssh_exception.ConfigParseError, ValueError) as error:
            raise ConfigError(f"{file} cannot be used: {error}") from error
    return config


def _lines(file: Path, folder: Path, depth: int, marked: Set[str]) -> Iterator[str]:
    """Give a configuration's lines with included files in place, which paramiko's parser does not look at."""
    block = "Host *\n"
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        keyword, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() in {"host", "match"}:
            block = line
        if keyword.lower() != "include":
            if keyword.lower() == "proxycommand":
                line = line.replace("%", _PERCENT)  # paramiko would not fill in what the inventory says
            yield f"{keyword} {file}:{number}\n" if keyword.lower() in marked else line
            continue
        for pattern in shlex.split(value):
            path = Path(pattern).expanduser()
            for included in sorted(folder.glob(str(path)) if not path.is_absolute() else Path("/").glob(str(path)[1:])):
                if depth < _INCLUDE_DEPTH and included.is_file():
                    yield from _lines(included, folder, depth + 1, marked)
                    yield "\n" + block


def _number(text: str, keyword: str, alias: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"~/.ssh/config: {keyword} {text} for {alias} is not a number")
    return int(text)


def _time(text: str, alias: str) -> int:
    """Read ssh_config's time format: `10`, `90s`, `1m30s`; `none` or 0 mean our default."""
    parts = re.findall(r"([0-9]+)([sSmMhH]?)", text)
    if "".join(number + unit for number, unit in parts) != text:
        return 10 if text == "none" else _number(text, "ConnectTimeout", alias)
    return sum(int(number) * {"m": 60, "h": 3600}.get(unit.lower(), 1) for number, unit in parts) or 10
