"""Which member goes on alone where etcd lost its quorum, and what becomes of the others."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import yaml

from bootstrap.errors import BootstrapError, EtcdUnfit, HostError, UsageError, words
from bootstrap.etcd.members import mebibytes
from bootstrap.etcd.quorum import Voice, hear
from bootstrap.parallel import attempt
from bootstrap.transport.base import Host

SURVIVOR = "survivor"
"""The request of a recovery from a member's own data; that of another is its snapshot's SHA-256."""
_SECONDS = 120.0
_SPARE_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Machine:
    """What is on a machine of etcd: the member that its manifest makes, its data, and a recovery that did not end.

    `flags` and `image` are the manifest's, `request` is what that recovery was to be from, on the host that it chose;
    `used` and `free` are bytes.
    """

    host: str
    flags: Mapping[str, str]
    image: str
    data: bool
    held: bool = False
    request: str = ""
    used: int = 0
    free: int = 0
    voice: Voice | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done: `source` goes on alone, with its own data or (`request`) a snapshot's.

    The members on `others` are stopped first and emptied afterwards; the hosts `lost` are not reached, and why.
    With `done` the source serves already, and others are what is left: an earlier run did not get to them, or they
    came back after it. `why` tells the choice.
    """

    source: Machine
    others: tuple[str, ...]
    lost: Mapping[str, str]
    request: str
    why: str
    done: bool = False

    def question(self, cluster: str) -> str:
        """Tell what will be done, and ask for the cluster's name."""
        data = "its own data" if self.request == SURVIVOR else "the snapshot's data"
        lines = [f"{self.source.host} becomes the whole of etcd, with {data} ({self.why})."]
        if self.done:
            lines = [f"{self.source.host} goes on as it is: {self.why}."]
        lines += [f"{name}: its member is stopped, and its data are put aside." for name in self.others]
        lines += [
            f"{name} is not reached ({why}): it must be off, and stay off until `kubestrap join`."
            for name, why in self.lost.items()
        ]
        return "\n".join([*lines, f"Type the cluster's name ({cluster}) to go on"])


def script(action: str, values: Mapping[str, str]) -> bytes:
    """Give the script for a part of a recovery."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in {"action": action, **values}.items()]
    return "".join(lines).encode() + resources.files("bootstrap.etcd").joinpath("recover.sh").read_bytes()


def look(hosts: Mapping[str, Host], data_dir: str) -> tuple[dict[str, Machine], dict[str, BootstrapError]]:
    """Look at the machines of etcd, all at once, changing nothing; and why some could not be looked at."""

    def see(name: str) -> Machine:
        host = hosts[name]
        result = host.run("sh -s", stdin=script("look", {"data": data_dir}), seconds=_SECONDS)
        if result.status:
            said = result.stderr.decode(errors="replace").strip() or f"status {result.status}"
            raise HostError(name, f"its etcd member could not be looked at: {said}")
        return read(name, result.stdout)

    found, failures = attempt(list(hosts), see)
    voices, _ = attempt([name for name, machine in found.items() if machine.flags], lambda name: hear(hosts[name]))
    told = {name: replace(machine, voice=voices.get(name)) for name, machine in found.items()}
    return told, failures


def read(host: str, answer: bytes) -> Machine:
    """Read what the script wrote. Raises `HostError` for a manifest that makes no sense."""
    told = dict(line.split("\t", 1) for line in answer.decode(errors="replace").splitlines() if "\t" in line)
    flags, image = _manifest(host, base64.b64decode(told.get("manifest", "")))
    used, _, free = told.get("kilobytes", "0\t0").partition("\t")
    return Machine(
        host, flags, image, "data" in told, "held" in told, told.get("request", ""), int(used) * 1024, int(free) * 1024
    )


def _manifest(host: str, text: bytes) -> tuple[dict[str, str], str]:
    if not text:
        return {}, ""
    try:
        container = yaml.safe_load(text)["spec"]["containers"][0]
        command = [*container["command"], *container.get("args", ())]
        flags = dict(word.removeprefix("--").split("=", 1) for word in command if word.startswith("--") and "=" in word)
        image = str(container["image"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        what = "its etcd manifest cannot be understood: mend it, or have `kubestrap init` do it"
        raise HostError(host, what) from error
    lacks = [name for name in ("name", "initial-advertise-peer-urls", "advertise-client-urls") if name not in flags]
    if lacks:
        raise HostError(host, f"its etcd manifest has no --{lacks[0]}: have `kubestrap init` mend it")
    if "wal-dir" in flags:
        what = "its etcd keeps its log elsewhere (--wal-dir), which this version cannot recover: see etcd's own guide"
        raise HostError(host, what)
    return flags, image


def choose(
    machines: Mapping[str, Machine],
    failures: Mapping[str, BootstrapError],
    *,
    source: str = "",
    snapshot: str = "",
    force: bool = False,
) -> Choice:
    """Say what is to be done: with the data of the host `source`, or the newest, or a snapshot of that SHA-256.

    `failures` is why other machines cannot be looked at. Raises `EtcdUnfit` where there is nothing to recover, unless a
    snapshot is restored by `force`, and where nobody tells which data are the newest.
    """
    request = snapshot or SURVIVOR
    _require_known(machines, failures, source)
    begun = [machine for machine in machines.values() if machine.held]
    lost = {name: words(error) for name, error in failures.items()}

    def chosen(machine: Machine, why: str) -> Choice:
        others = tuple(name for name in machines if name != machine.host)
        return Choice(machine, others, lost, request, why)

    former = _former(machines)
    if former and not source and not snapshot and not any(machine.request for machine in begun):
        serving = next(machine for machine in machines.values() if machine.voice and machine.voice.leader)
        return Choice(serving, former, lost, request, "etcd serves, and the others are no members of it", done=True)
    if not begun and not (force and snapshot):
        _require_loss(machines, restoring=bool(snapshot), force=force)
    if source:
        return chosen(machines[source], "as you say")
    if again := [machine for machine in begun if machine.request]:
        return chosen(again[0], "a run that did not end has chosen it")
    able = [machine for machine in machines.values() if machine.flags and (machine.data or snapshot)]
    if not able:
        raise EtcdUnfit("no machine has the data of an etcd member", ["a snapshot can be restored: --snapshot FILE"])
    if snapshot:
        return chosen(able[0], "the first that has a member")
    return chosen(*_newest(able))


def _former(machines: Mapping[str, Machine]) -> tuple[str, ...]:
    """Give the hosts with what is left of members that the etcd which serves does not have; none where it does not."""
    leading = [machine.voice for machine in machines.values() if machine.voice and machine.voice.leader]
    if not leading:
        return ()
    members = [member for voice in leading for member in voice.members]
    # A learner that has only just been added has no name yet.
    known = {member.name for member in members} | {url for member in members for url in member.peers}

    def is_member(machine: Machine) -> bool:
        return any(machine.flags.get(flag) in known for flag in ("name", "initial-advertise-peer-urls"))

    return tuple(
        name for name, machine in machines.items() if machine.held or (machine.data and not is_member(machine))
    )


def _newest(able: Sequence[Machine]) -> tuple[Machine, str]:
    """Give the machine whose data are the newest, and how that is known."""
    if len(able) == 1:
        return able[0], "no other has data"
    mute = [machine.host for machine in able if machine.voice is None or machine.voice.committed < 0]
    if mute:
        raise EtcdUnfit(
            "nobody tells which data are the newest; nothing was changed",
            [f"{name}: its member does not tell how far its data go" for name in mute],
            "Have it start (`kubestrap init`), or say whose data are to be used: --from HOST.",
        )
    voters = [machine for machine in able if machine.voice and machine.voice.votes] or able
    best = max(voters, key=_committed)
    behind = ", ".join(f"{machine.host} to {_committed(machine)}" for machine in able if machine is not best)
    return best, f"its log goes to index {_committed(best)}, of {behind}"


def _committed(machine: Machine) -> int:
    return machine.voice.committed if machine.voice else -1


def _require_known(machines: Mapping[str, Machine], failures: Mapping[str, BootstrapError], source: str) -> None:
    if source in failures:
        raise failures[source]
    if source and source not in machines:
        raise UsageError(f"--from {source}: no such host runs etcd; there are {', '.join(machines)}")
    if source and not machines[source].flags:
        raise EtcdUnfit(f"{source} cannot go on alone", ["it has no etcd manifest: run `kubestrap init` first"])


def _require_loss(machines: Mapping[str, Machine], *, restoring: bool, force: bool) -> None:
    """Raise `EtcdUnfit` where etcd has a quorum, or would have one if its members were only started."""
    leading = [name for name, machine in machines.items() if machine.voice and machine.voice.leader]
    if leading and restoring:
        raise EtcdUnfit(
            "etcd has a quorum, and all that is newer than the snapshot would be lost; nothing was changed",
            [f"{name}: its member follows a leader" for name in leading],
            "--force restores the snapshot all the same.",
        )
    if leading:
        raise EtcdUnfit(
            "etcd has a quorum, so that there is nothing to recover; nothing was changed",
            [f"{name}: its member follows a leader" for name in leading],
        )
    voices = [machine.voice for machine in machines.values() if machine.voice]
    known = max((voice.members for voice in voices), key=len, default=())
    voters = len([member for member in known if not member.learner])
    there = [name for name, machine in machines.items() if machine.data]
    if not force and not restoring and voters > 1 and len(there) > voters // 2:
        raise EtcdUnfit(
            "members that are enough for a quorum are there with their data; nothing was changed",
            [f"{name}: it has its member's data" for name in there],
            "Have them start (`kubestrap init`), and reach each other on port 2380. --force goes on with one of them.",
        )


def require_room(machine: Machine, snapshot: int = 0) -> None:
    """Raise `HostError` where the new data do not fit beside the old ones. `snapshot` is how large it is."""
    needed = (2 * snapshot or machine.used) * (100 + _SPARE_PERCENT) // 100
    if machine.free and machine.free < needed:
        raise HostError(
            machine.host,
            f"{machine.flags.get('data-dir', 'its data folder')} has {mebibytes(machine.free)} MiB free of the "
            f"{mebibytes(needed)} MiB that new data take beside the old ones. Make room there",
        )
