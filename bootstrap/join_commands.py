"""`kubestrap join`: make Nodes of workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    DetailedExitcode,
    DryRun,
    Force,
    IgnorePreflight,
    InventoryOption,
    Limit,
    OutputOption,
    PhaseNames,
    SkipPhases,
    SudoPasswordFile,
    Until,
    listed,
    require_no_options,
    require_together,
)

if TYPE_CHECKING:
    from bootstrap.gather import Request
    from bootstrap.joining import Invitation
    from bootstrap.output import Output

app = typer.Typer()


Server = Annotated[
    str, typer.Option(help="Join the cluster of this API server, by its token alone.", metavar="HOST:PORT")
]
CaCertHash = Annotated[
    list[str] | None, typer.Option(help="What the cluster's CA must be; may be repeated.", metavar="sha256:HEX")
]
TokenFile = Annotated[
    str, typer.Option(help="Where the token stands; - is standard input. Else it is asked for.", metavar="FILE")
]


@app.callback(invoke_without_command=True)
def join(
    context: typer.Context,
    inventory: InventoryOption = INVENTORY,
    server: Server = "",
    ca_cert_hash: CaCertHash = None,
    token_file: TokenFile = "",
    skip_phases: SkipPhases = None,
    until: Until = "",
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    dry_run: DryRun = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    *,
    output: OutputOption,
) -> None:
    """Join the inventory's workers to the cluster, all at once.

    With --server it takes no admin rights: discovery is kubeadm's, by --ca-cert-hash and a token.
    """
    from bootstrap.gather import Request

    if context.invoked_subcommand:
        require_no_options(context)
        return
    request = Request(
        listed(skip_phases),
        listed(ignore_preflight_errors),
        output.secrets,
        until=until,
        limit=listed(limit),
        force=force,
    )
    way = (server, listed(ca_cert_hash), token_file)
    _go(
        inventory,
        request,
        way,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new),
    )


@app.command()
def phase(
    names: PhaseNames,
    inventory: InventoryOption = INVENTORY,
    server: Server = "",
    ca_cert_hash: CaCertHash = None,
    token_file: TokenFile = "",
    limit: Limit = None,
    ignore_preflight_errors: IgnorePreflight = None,
    force: Force = False,
    dry_run: DryRun = False,
    detailed_exitcode: DetailedExitcode = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    *,
    output: OutputOption,
) -> None:
    """Do these phases of join alone, in join's order.

    Machines are looked at first as always, and what the phases build on must be there already.
    """
    from bootstrap.gather import Request

    request = Request(
        (),
        listed(ignore_preflight_errors),
        output.secrets,
        only=listed(names),
        limit=listed(limit),
        force=force,
    )
    way = (server, listed(ca_cert_hash), token_file)
    _go(
        inventory,
        request,
        way,
        output=output,
        looking=dry_run,
        detailed_exitcode=detailed_exitcode,
        access=Access(sudo_password_file, accept_new),
    )


def _go(
    inventory: Path,
    request: Request,
    way: tuple[str, tuple[str, ...], str],
    *,
    output: Output,
    looking: bool,
    detailed_exitcode: bool,
    access: Access,
) -> None:
    from bootstrap import inventory as inventories
    from bootstrap import joining
    from bootstrap.errors import UsageError

    server, hashes, token_file = way
    if {token_file, access.sudo_password_file} == {"-"}:
        raise UsageError("--token-file and --sudo-password-file cannot both be standard input")
    if not server and (hashes or token_file):
        raise UsageError("--ca-cert-hash and --token-file go with --server, which is missing")
    require_together(looking=looking, detailed_exitcode=detailed_exitcode)
    read = access.to(inventories.load(inventory, control_plane=not server))
    inventories.require_supported(read)
    invitation = _invitation(server, hashes, token_file) if server else None
    if invitation:
        output.secrets.learn(str(invitation.token).encode())
    if looking:
        from bootstrap import diff
        from bootstrap.diff_commands import showing

        with showing(output, detailed_exitcode=detailed_exitcode) as found:
            diff.join(read, request, output.warn, found, invitation)
        return
    hosts = [host.name for host in read.hosts if host.is_worker]
    hosts = [name for name in hosts if not request.limit or name in request.limit]
    with output.run("join", read, hosts) as listener:
        if invitation:
            joined = joining.join_invited(read, invitation, request, listener, output.warn)
        else:
            joined = joining.join(read, request, listener, output.warn)
    if joined.commands:
        output.note("Somebody with admin rights on the cluster may add the role's label:")
    output.result({"joined": joined.hosts, "commands": joined.commands}, "\n".join(joined.commands))


def _invitation(server: str, hashes: tuple[str, ...], token_file: str) -> Invitation:
    from bootstrap import discovery, tokens
    from bootstrap.errors import UsageError
    from bootstrap.joining import Invitation

    discovery.parse_server(server)
    if not hashes:
        raise UsageError("--ca-cert-hash is missing: without it anybody could answer for the cluster")
    checked = tuple(tokens.parse_ca_cert_hash(text) for text in hashes)
    return Invitation(server, checked, tokens.parse(_token(token_file)))


def _token(source: str) -> str:
    import sys
    from getpass import getpass

    from bootstrap.errors import UsageError

    if source == "-":
        return sys.stdin.readline() if sys.stdin is not None else ""
    if source:
        return Path(source).read_text(encoding="utf-8", errors="replace")
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("the token cannot be asked for without a terminal: give --token-file FILE, or - for stdin")
    return getpass("Token: ")
