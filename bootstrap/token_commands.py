"""`kubestrap token`: the cluster's bootstrap tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
)

if TYPE_CHECKING:
    import datetime

app = typer.Typer(help="Make, list and delete bootstrap tokens, by which machines join.", no_args_is_help=True)


@app.command()
def create(
    inventory: InventoryOption = INVENTORY,
    ttl: Annotated[str, typer.Option(help="How long it is valid, like 2h or 30m; 0 is for ever.")] = "24h",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    print_join_command: Annotated[
        bool, typer.Option("--print-join-command", help="Show how to join with it, too.")
    ] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Make a token and show it."""
    import datetime

    from bootstrap import inventory as inventories
    from bootstrap import kubeconfig, tokens
    from bootstrap.run import reached_control_plane

    lifetime = _lifetime(ttl)
    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime) if lifetime else None
    token = tokens.make()
    output.secrets.learn(str(token).encode())
    with reached_control_plane(read) as control_plane, control_plane.api() as api:
        api.create(tokens.secret_manifest(token, expires=expires, description=description))
        ca_hash = tokens.ca_cert_hash(control_plane.ca)
    data: dict[str, object] = {"token": str(token), "expires": _stamp(expires)}
    lines = [str(token)]
    if print_join_command:
        server = kubeconfig.endpoint(read.cluster).removeprefix("https://")
        at = kubeconfig.own_server(read.cluster, control_plane.node).removeprefix("https://")
        ours = f"kubestrap join -i inventory.yaml --server {at} --ca-cert-hash {ca_hash} --token-file -"
        theirs = f"kubeadm join {server} --token {token} --discovery-token-ca-cert-hash {ca_hash}"
        output.note("After the token: how to join machines of an inventory, giving the token on standard input,")
        output.note(f"and how to join with kubeadm, on a machine that knows the name in {server}.")
        data["joinCommands"] = {"kubestrap": ours, "kubeadm": theirs}
        lines += [ours, theirs]
    output.result(data, "\n".join(lines))


def _stamp(time: datetime.datetime | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else "never"


def _lifetime(ttl: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    from bootstrap.errors import UsageError
    from bootstrap.values import Duration, seconds

    if ttl == "0":
        return 0
    try:
        return seconds(TypeAdapter(Duration).validate_python(ttl))
    except ValidationError as error:
        raise UsageError(f"--ttl {ttl}: it must be a time like 2h, 30m or 90s, or 0 for one that never ends") from error


@app.command("list")
def list_tokens(
    inventory: InventoryOption = INVENTORY,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """List the tokens, without their secrets."""
    from bootstrap import inventory as inventories
    from bootstrap import tokens
    from bootstrap.run import reached_control_plane

    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    with reached_control_plane(read) as control_plane, control_plane.api() as api:
        found = tokens.listing(api.list("v1", "Secret", tokens.NAMESPACE))
    data = [
        {
            "id": info.id,
            "expires": _stamp(info.expires),
            "usages": info.usages,
            "description": info.description,
        }
        for info in found
    ]
    lines = [f"{'ID':<8}  {'EXPIRES':<20}  {'USAGES':<24}  DESCRIPTION"]
    for info in found:
        usages = ",".join(info.usages)
        lines.append(f"{info.id:<8}  {_stamp(info.expires):<20}  {usages:<24}  {info.description}".rstrip())
    output.result({"tokens": data}, "\n".join(lines))


@app.command()
def delete(
    ids: Annotated[
        list[str], typer.Argument(help="Ids of tokens (the six characters before the dot).", metavar="ID...")
    ],
    inventory: InventoryOption = INVENTORY,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Delete tokens."""
    from bootstrap import inventory as inventories
    from bootstrap import tokens
    from bootstrap.errors import UsageError
    from bootstrap.run import reached_control_plane

    wanted = [tokens.parse_id(text) for text in ids]
    read = Access(sudo_password_file, accept_new, ssh_backend).to(inventories.load(inventory))
    inventories.require_supported(read)
    with reached_control_plane(read) as control_plane, control_plane.api() as api:
        there = {info.id for info in tokens.listing(api.list("v1", "Secret", tokens.NAMESPACE))}
        for token_id in wanted:
            if token_id in there:
                api.delete("v1", "Secret", tokens.secret_name(token_id), tokens.NAMESPACE)
                output.note(f"{token_id}: deleted")
    if missing := [token_id for token_id in wanted if token_id not in there]:
        raise UsageError(f"no such token: {', '.join(missing)}; `kubestrap token list` shows those there are")
    output.result({"deleted": wanted})
