"""`kubestrap etcd`: look after etcd, and save snapshots of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap import completing
from bootstrap.options import (
    INVENTORY,
    AcceptNew,
    Access,
    InventoryOption,
    OutputOption,
    SshBackendOption,
    SudoPasswordFile,
    listed,
    require_no_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bootstrap.errors import BootstrapError
    from bootstrap.etcd.members import Seen, Status
    from bootstrap.etcd.survivors import Choice
    from bootstrap.spec import Inventory

app = typer.Typer(help="Look after etcd: members, snapshots, room, alarms, recovery.", no_args_is_help=True)
snapshot = typer.Typer(help="Save snapshots of etcd, and check them.", no_args_is_help=True)
alarm_app = typer.Typer()
app.add_typer(snapshot, name="snapshot")
app.add_typer(alarm_app, name="alarms")

SnapshotPath = Annotated[Path, typer.Argument(help="A file on this machine.", metavar="PATH")]


@app.command()
def status(
    inventory: InventoryOption = INVENTORY,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Show every member: size, quota, leader, version, raft, alarms.

    Each machine that runs etcd is asked for itself, so that it works without a quorum, too.
    """
    from bootstrap.etcd import members
    from bootstrap.parallel import raise_failures

    seen, failures = _look(_read(inventory, Access(sudo_password_file, accept_new, ssh_backend)))
    warnings = members.warnings(seen)
    data = {"members": [_data(seen, each) for each in seen.statuses.values()], "warnings": warnings}
    output.result(data, "\n".join(_table(seen)) if seen.statuses else "")
    for text in warnings:
        output.note(f"Warning: {text}")
    raise_failures(failures, seen.statuses)


@snapshot.command()
def save(
    path: SnapshotPath,
    inventory: InventoryOption = INVENTORY,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Save a snapshot of etcd to a file here, whole and checked, or not at all.

    It holds all of the cluster, its Secrets too: the file is readable by you alone. It is taken from one member that
    is well, a follower where there is one; nothing is written on the machine.
    """
    from bootstrap.connections import connected
    from bootstrap.errors import EtcdUnfit, HostsFailed
    from bootstrap.etcd import asking, members, snapshots
    from bootstrap.report import size

    snapshots.require_free(path, replace=force)
    read = _read(inventory, Access(sudo_password_file, accept_new, ssh_backend))
    with connected(read, read.etcd_members) as connections:
        seen, failures = asking.look(connections.hosts, connections.failures)
        if not seen.statuses:
            raise HostsFailed(failures)
        sources = members.sources(seen)
        clusters = {each.cluster for each in seen.statuses.values()}
        if not sources or len(clusters) > 1:
            reasons = [*members.warnings(seen), *(str(error) for error in failures.values())]
            raise EtcdUnfit("no member is fit to give a snapshot; nothing was saved", reasons)
        for error in failures.values():
            output.note(f"Warning: {error}")
        best = sources[0]
        role = "the leader" if best.leads else "a follower"
        output.note(f"From {best.host} ({role}), {size(best.size)}")
        saved = snapshots.save(connections.hosts[best.host], path, replace=force)
    output.note(f"{path}: {size(saved.size)}, revision {best.revision} or later; its SHA-256 is right.")
    data = {
        "path": saved.path,
        "size": saved.size,
        "sha256": saved.sha256,
        "host": best.host,
        "member": seen.name(best.id),
        "cluster": members.identity(best.cluster),
        "version": best.version,
        "revisionAtLeast": best.revision,
    }
    output.result(data)


@snapshot.command("status")
def snapshot_status(path: SnapshotPath, *, output: OutputOption) -> None:
    """Check a snapshot by the SHA-256 at its end; no machine is asked.

    What is in it (revision, number of keys) is told by `etcdutl snapshot status`.
    """
    from bootstrap.etcd import snapshots
    from bootstrap.report import size

    seen = snapshots.check(path)
    lines = [
        f"{'size':<9} {size(seen.size)} ({seen.size} bytes)",
        f"{'database':<9} {seen.database} bytes",
        f"{'sha256':<9} {seen.sha256}, as at its end",
    ]
    output.result(seen, "\n".join(lines))


@app.command()
def defrag(
    inventory: InventoryOption = INVENTORY,
    compact: Annotated[
        bool, typer.Option("--compact", help="Drop the history first: all revisions but the last.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where a member is down, or the members do not agree.")
    ] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Defragment the members, one at a time, the leader last.

    A member answers nothing meanwhile; with one member the whole cluster stands still for that time, seconds as a
    rule. Each is waited for before the next begins.
    """
    from bootstrap.etcd import upkeep

    read = _read(inventory, Access(sudo_password_file, accept_new, ssh_backend))
    names = [host.name for host in read.etcd_members]
    folder = read.cluster.etcd.local.data_dir
    with (
        output.run("etcd defrag", read, names) as listener,
        upkeep.locked(read, "etcd defrag") as (hosts, unreached),
    ):
        done = upkeep.defrag(hosts, unreached, folder, listener, compact=compact, force=force)
    output.result({"members": upkeep.sizes(done)})


@app.command()
def recover(
    inventory: InventoryOption = INVENTORY,
    source: Annotated[
        str,
        typer.Option("--from", help="Go on with this host's member.", metavar="HOST", autocompletion=completing.hosts),
    ] = "",
    from_snapshot: Annotated[
        Path | None, typer.Option("--snapshot", help="Go on with this snapshot.", metavar="FILE", show_default=False)
    ] = None,
    dead: Annotated[
        list[str] | None,
        typer.Option(
            help="Hosts that are not reached, and off for good (with --yes).",
            metavar="HOSTS",
            autocompletion=completing.hosts,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though etcd has a quorum (with --snapshot), or could have one.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the cluster's name.")] = False,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Go on without a quorum: one member becomes the whole of etcd, with its data or a snapshot's.

    Without --from it is the one whose data are the newest. Members on other hosts are stopped and emptied; no data
    are deleted, they are put aside. `kubestrap join` then brings the others back.
    """
    from bootstrap.errors import HostsFailed, NotSupported
    from bootstrap.etcd import recovery, snapshots, survivors, upkeep

    read = _read(inventory, Access(sudo_password_file, accept_new, ssh_backend))
    if not read.is_stacked:
        raise NotSupported("This version recovers etcd on the control plane's own hosts alone")
    checked = snapshots.check(from_snapshot) if from_snapshot else None
    with (
        output.run("etcd recover", read, [host.name for host in read.etcd_members]) as listener,
        upkeep.locked(read, "etcd recover") as (hosts, unreached),
    ):
        machines, failures = survivors.look(hosts, read.cluster.etcd.local.data_dir)
        failures = {**unreached, **failures}
        if not machines:
            raise HostsFailed(failures)
        choice = survivors.choose(
            machines, failures, source=source, snapshot=checked.sha256 if checked else "", force=force
        )
        survivors.require_room(choice.source, checked.size if checked else 0)
        _confirm(read, choice, listed(dead), yes=yes)
        done = recovery.recover(hosts, choice, read.cluster, checked, listener)
    for name, folder in done.aside.items():
        output.note(f"{name}: the former data are in {folder}: delete them when nothing of them is needed")
    others = [host.name for host in read.etcd_members if host.name != done.host]
    if others:
        output.note(f"etcd is {done.host} alone: `kubestrap join` makes {', '.join(others)} members again.")
    output.result({"host": done.host, "why": choice.why, "aside": done.aside})


def _confirm(inventory: Inventory, choice: Choice, dead: Sequence[str], *, yes: bool) -> None:
    """Have the user say that it shall be done. Raises `UsageError` where he does not."""
    import sys

    from bootstrap.errors import UsageError

    if yes:
        if unsaid := {name: why for name, why in choice.lost.items() if name not in dead}:
            lines = [f"  {name}: {why}" for name, why in unsaid.items()]
            raise UsageError(
                "\n".join(["these hosts are not reached, and their members may be running:", *lines])
                + f"\nWhere they are off, and stay off until `kubestrap join`, say so: --dead {','.join(unsaid)}"
            )
        return
    if not sys.stdin.isatty():
        raise UsageError("recover asks for the cluster's name, and there is no terminal to ask at: give --yes")
    if str(typer.prompt(choice.question(inventory.cluster.name), err=True)).strip() != inventory.cluster.name:
        raise UsageError(f"that is not the cluster's name ({inventory.cluster.name}); nothing was done")


@alarm_app.callback(invoke_without_command=True)
def alarms(
    context: typer.Context,
    inventory: InventoryOption = INVENTORY,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """List etcd's alarms, and say what to do about them."""
    from bootstrap.etcd import members
    from bootstrap.parallel import raise_failures

    if context.invoked_subcommand:
        require_no_options(context)
        return
    seen, failures = _look(_read(inventory, Access(sudo_password_file, accept_new, ssh_backend)))
    found = [
        {"alarm": each.kind, "member": seen.name(each.member), "id": members.identity(each.member)}
        for each in seen.alarms
    ]
    lines = [f"{seen.name(each.member)}: {members.advice(each.kind)}" for each in seen.alarms]
    output.result({"alarms": found}, "\n".join(lines))
    if not found and seen.statuses:
        output.note("No alarm is raised.")
    raise_failures(failures, seen.statuses)


@alarm_app.command()
def disarm(
    inventory: InventoryOption = INVENTORY,
    sudo_password_file: SudoPasswordFile = "",
    accept_new: AcceptNew = False,
    ssh_backend: SshBackendOption = None,
    *,
    output: OutputOption,
) -> None:
    """Disarm the alarm NOSPACE, where every database has room again. No other alarm is touched."""
    from bootstrap.etcd import upkeep

    read = _read(inventory, Access(sudo_password_file, accept_new, ssh_backend))
    names = [host.name for host in read.etcd_members]
    with (
        output.run("etcd alarms disarm", read, names) as listener,
        upkeep.locked(read, "etcd alarms disarm") as (hosts, unreached),
    ):
        count = upkeep.disarm(hosts, unreached, listener)
    output.note("The cluster takes writes again." if count else "There is no alarm to disarm.")
    output.result({"disarmed": count})


def _read(path: Path, access: Access) -> Inventory:
    from bootstrap import inventory as inventories
    from bootstrap.errors import NotSupported

    read = access.to(inventories.load(path))
    inventories.require_supported(read)
    if read.cluster.etcd.external:
        raise NotSupported("etcd is external (cluster.etcd.external): look after it where it runs, with etcdctl")
    return read


def _look(inventory: Inventory) -> tuple[Seen, Mapping[str, BootstrapError]]:
    from bootstrap.connections import connected
    from bootstrap.etcd import asking

    with connected(inventory, inventory.etcd_members) as connections:
        return asking.look(connections.hosts, connections.failures)


def _data(seen: Seen, each: Status) -> dict[str, object]:
    from bootstrap.etcd.members import identity

    return {
        "host": each.host,
        "name": seen.name(each.id),
        "id": identity(each.id),
        "cluster": identity(each.cluster),
        "version": each.version,
        "size": each.size,
        "sizeInUse": each.in_use,
        "quota": each.quota,
        "leader": each.leads,
        "leaderId": identity(each.leader) if each.leader else "",
        "learner": each.learner,
        "raftTerm": each.term,
        "raftIndex": each.index,
        "raftAppliedIndex": each.applied,
        "revision": each.revision,
        "alarms": each.raised,
        "errors": each.errors,
    }


def _table(seen: Seen) -> list[str]:
    from bootstrap.etcd.members import identity
    from bootstrap.report import size, table

    rows = [["NAME", "ID", "VERSION", "SIZE", "IN USE", "QUOTA", "ROLE", "TERM", "INDEX", "ALARMS"]]
    for each in seen.statuses.values():
        role = "learner" if each.learner else "leader" if each.leads else "follower" if each.leader else "no leader"
        numbers = [size(each.size), size(each.in_use), size(each.quota), role, str(each.term), str(each.index)]
        rows.append([seen.name(each.id), identity(each.id), each.version, *numbers, ",".join(each.raised) or "none"])
    return table(rows)
