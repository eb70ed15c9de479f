"""Mirrors, logins and proxies of registries, as containerd has them (containerd's docs/hosts.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bootstrap import paths
from bootstrap.render import render, to_toml
from bootstrap.steps import Absent, Command, Directory, File, Step
from bootstrap.values import REGISTRY_SERVERS

if TYPE_CHECKING:
    from bootstrap.site import Site

MARK = "# Written by kubestrap, from cluster.registries of the inventory.\n"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Fields of templates/runtime/proxy.conf.j2."""

    http: str
    https: str
    no: str


def steps(site: Site) -> Iterator[Step]:
    """Tell containerd of the registries of the inventory, which it reads anew with each pull."""
    given = site.cluster.registries
    files = {f"{paths.REGISTRIES}/{_folder(host)}/hosts.toml": table for host, table in tables(site).items()}
    if given.ca_file is not None:
        yield File(paths.REGISTRIES_CA, given.ca_file.data)
    for path, table in files.items():
        login = "authorization" in to_toml(table)
        yield Directory(path.rpartition("/")[0])
        yield File(path, (MARK + to_toml(table)).encode(), mode=0o600 if login else 0o644, secret=login)
    yield Command(
        "no registries but the inventory's",
        unless=f'[ -z "$({_others(files)})" ]',
        run=f"{_others(files)} | xargs -r rm -f --",
    )
    if given.ca_file is None:
        yield Absent(paths.REGISTRIES_CA)
    told = proxy(site)
    if told is not None:
        yield File(paths.CONTAINERD_PROXY, render("runtime/proxy.conf.j2", told).encode())
    else:
        yield Command(
            "no proxy of containerd's",
            unless=f"[ ! -e {paths.CONTAINERD_PROXY} ]",
            run=f"rm -f {paths.CONTAINERD_PROXY}; systemctl daemon-reload; systemctl try-restart containerd.service",
        )


def proxy(site: Site) -> Proxy | None:
    """Give the proxies that containerd uses, and what it reaches without; None where it has none."""
    given, network = site.cluster.registries, site.cluster.networking
    if not given.http_proxy and not given.https_proxy:
        return None
    inside = ("localhost", "127.0.0.0/8", str(network.pod_subnet), str(network.service_subnet), ".svc")
    without = (*inside, f".{network.dns_domain}", *given.no_proxy)
    return Proxy(given.http_proxy or "", given.https_proxy or "", ",".join(without))


def tables(site: Site) -> Mapping[str, Mapping[str, Any]]:
    """Give the contents of hosts.toml by the host of each registry."""
    given = site.cluster.registries
    logins = given.auth_file.headers if given.auth_file is not None else {}
    hosts = dict.fromkeys((*given.mirrors, *logins))
    ca = {"ca": paths.REGISTRIES_CA} if given.ca_file is not None else {}

    def server(name: str) -> dict[str, Any]:
        return {**ca, **({"header": {"authorization": [logins[name]]}} if name in logins else {})}

    def mirror(url: str) -> tuple[str, dict[str, Any]]:
        parts = urlsplit(url)
        path = parts.path.strip("/")
        address = f"{parts.scheme}://{parts.netloc}"
        options = {"capabilities": ["pull", "resolve"], **({"override_path": True} if path else {})}
        return f"{address}/v2/{path}" if path else address, {**options, **server(parts.netloc)}

    made: dict[str, Mapping[str, Any]] = {}
    for host in hosts:
        itself = {} if host == "*" else {"server": f"https://{REGISTRY_SERVERS.get(host, host)}", **server(host)}
        mirrors = dict(map(mirror, given.mirrors.get(host, ())))
        made[host] = {**itself, **({"host": mirrors} if mirrors else {})}
    return made


def _folder(host: str) -> str:
    """Name the folder of a registry; a colon is not for file names, containerd says."""
    name, _, port = host.partition(":")
    return "_default" if host == "*" else f"{name}_{port}_" if port else name


def _others(files: Mapping[str, object]) -> str:
    """List, in shell, the files that we wrote and that are not among `files`."""
    kept = "".join(f" ! -path {path}" for path in files)
    found = f"find {paths.REGISTRIES} -mindepth 2 -maxdepth 2 -name hosts.toml{kept}"
    return f"{found} -exec grep -lx '{MARK.strip()}' {{}} +"
