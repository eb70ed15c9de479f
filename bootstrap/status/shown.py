"""A cluster's status as text, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bootstrap.report import size, table
from bootstrap.status.cluster import ClusterStatus


def text(status: ClusterStatus) -> str:
    """Give tables of hosts, components, etcd's members and certificates; problems are not among them."""
    blocks = [_head(status), _hosts(status), _components(status), _etcd(status), _certificates(status)]
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block)


def _head(status: ClusterStatus) -> Iterator[str]:
    asked = [host for host in status.hosts if host.endpoint]
    fine = sum(host.endpoint == "ok" for host in asked)
    answers = f"answers {fine} of {len(asked)} hosts" if asked else "nobody was asked"
    yield f"{'Cluster':<9}{status.cluster}, Kubernetes {status.version}, {status.time}"
    yield f"{'Endpoint':<9}{status.endpoint}: {answers}"


def _hosts(status: ClusterStatus) -> list[str]:
    rows = [["HOST", "ROLES", "MACHINE", "NODE", "API", "KUBELET"]]
    for host in status.hosts:
        idle = [f"no {unit}" for unit, state in host.units.items() if state != "active"]
        machine = ", ".join(idle) or "ok" if host.reached else "not reached" if host.roles else "not asked"
        api = "" if not host.api else "ok" if host.api == "ok" else "not ready"
        cells = [",".join(host.roles), machine, host.node, api, host.kubelet]
        rows.append([host.name, *(cell or "-" for cell in cells)])
    return table(rows)


def _components(status: ClusterStatus) -> list[str]:
    if not status.components:
        return []
    rows = [["COMPONENT", "READY", "VERSION"]]
    for name in dict.fromkeys(each.name for each in status.components):
        own = [each for each in status.components if each.name == name]
        counted = f"{sum(each.ready for each in own)}/{sum(each.wanted for each in own)}"
        rows.append([name, counted, ", ".join(sorted({each.version for each in own}))])
    return table(rows)


def _etcd(status: ClusterStatus) -> list[str]:
    if not status.etcd:
        return []
    rows = [["ETCD", "ROLE", "VERSION", "SIZE", "OF QUOTA", "ALARMS"]]
    for each in status.etcd:
        share = f"{100 * each.size / each.quota:.0f} %" if each.quota else "-"
        known = [size(each.size), share, ",".join(each.alarms) or "none"] if each.version else ["-", "-", "-"]
        rows.append([each.name, each.role, each.version or "-", *known])
    return table(rows)


def _certificates(status: ClusterStatus) -> list[str]:
    """List each certificate once, where all hosts have it: by the one that ends first."""
    if not status.certificates:
        return []
    rows = [["CERTIFICATE", "HOSTS", "FIRST ENDS", "DAYS"]]
    for name in dict.fromkeys(each.name for each in status.certificates):
        own = [each for each in status.certificates if each.name == name]
        first = min(own, key=lambda each: each.ends)
        rows.append([name, str(len(own)), first.ends[:10] or "unreadable", str(first.days) if first.ends else "-"])
    return table(rows)
