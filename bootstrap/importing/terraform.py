"""What `terraform output -json` writes. Two shapes of outputs are known: our own, and those of KubeOne's examples.

- `kubestrap_hosts`: a list of hosts as inventories have them; `kubestrap_cluster`, `kubestrap_ssh`: their mappings.
- `kubeone_api`, `kubeone_hosts`, `kubeone_static_workers`: as KubeOne's Terraform modules give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bootstrap.importing import kubeone
from bootstrap.importing.draft import Draft, Given

_HOST = {
    "ssh_user": "sshUsername",
    "ssh_port": "sshPort",
    "ssh_private_key_file": "sshPrivateKeyFile",
    "ssh_agent_socket": "sshAgentSocket",
    "bastion": "bastion",
    "bastion_port": "bastionPort",
    "bastion_user": "bastionUser",
    "labels": "labels",
    "taints": "taints",
    "kubelet": "kubelet",
    "operating_system": "operatingSystem",
}


def is_output(data: Mapping[str, Any]) -> bool:
    """Whether this is what `terraform output -json` writes: every output with its value, type and sensitivity."""
    return bool(data) and all(
        isinstance(output, dict) and "value" in output and output.keys() <= {"value", "type", "sensitive"}
        for output in data.values()
    )


def draft(data: Any, name: str) -> Draft:
    """Read the outputs of Terraform."""
    made = Draft(name)
    given = Given({key: output["value"] for key, output in data.items()})
    made.cluster = given.take("kubestrap_cluster", dict) or {}
    defaults = given.take("kubestrap_ssh", dict) or {}
    for host in given.take("kubestrap_hosts", list) or ():
        mine = dict(host) if isinstance(host, dict) else {"name": host}
        login = mine.get("ssh") or {}
        mine["ssh"] = {**defaults, **login} if isinstance(login, dict) else login
        kept = {key: value for key, value in mine.items() if value not in (None, {})}
        made.hosts.append({**kept, "roles": kept.get("roles", [])})
    api = Given(given.take("kubeone_api", dict))
    if endpoint := api.text("endpoint"):
        made.set("endpoint", {"kind": "external", "name": endpoint})
    made.set("apiServer.certSANs", api.take("apiserver_alternative_names", list) or None)
    for output, part, roles in (
        ("kubeone_hosts", "control_plane", ["control-plane"]),
        ("kubeone_static_workers", "workers1", ["worker"]),
    ):
        groups = given.take(output, dict) or {}
        for key, group in groups.items():
            if output == "kubeone_hosts" and key != part:
                made.left(f"{name}: {output}", [key])
                continue
            for member in group if isinstance(group, list) else [group]:
                _group(made, member, roles, f"{name}: {output}.{key}")
    made.left(f"{name}: kubeone_api", api.left())
    for key in sorted({path.partition(".")[0] for path in given.left()}):
        made.left(name, [f"the output {key}"])
    return made


def _group(made: Draft, group: object, roles: list[str], where: str) -> None:
    """Add machines that share all but their names and addresses."""
    given = Given(group)
    made.set("name", given.text("cluster_name"))
    given.take("cloud_provider")
    private, public = (given.take(f"{kind}_address", list, str) or [] for kind in ("private", "public"))
    hostnames = given.take("hostnames", list) or []
    shared = {theirs: given.take(ours) for ours, theirs in _HOST.items()}
    if isinstance(private, str):
        private, public = [private], [public] if public else []
    for index in range(max(len(private), len(public))):
        one = {
            **shared,
            "privateAddress": _at(private, index),
            "publicAddress": _at(public, index),
            "hostname": _at(hostnames, index),
        }
        kubeone.add(made, Given({key: value for key, value in one.items() if value is not None}), roles, where)
    made.left(where, given.left())


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
