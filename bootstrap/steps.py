"""The closed set of things a phase can ask for, as values that do nothing by themselves.

Steps of the first kind are done on a machine, and many of them go there at once (`bootstrap.batch`); those of the
second kind are done at the API server (`bootstrap.cluster`), those of the third by etcd's members
(`bootstrap.etcd.learners`). Each says what should be true, and is quiet where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """The systemd unit `name` is enabled and active, and was started after the last change of any file in `uses`.

    What matches `unheeded` (an extended regular expression) in those files is nothing that a running unit would heed.
    """

    name: str
    uses: tuple[str, ...] = ()
    unheeded: str = ""


@dataclass(frozen=True, slots=True)
class Fallback:
    """What to go back to: the files at `paths` as they were while `well` (POSIX sh) still exited 0.

    They are kept when a `File` with this fallback is about to change, and put back where a `Wait` with it fails. Then
    `unit` is started anew, if it uses any of them, and `well` is given `seconds` to exit 0 again. Where it did not
    exit 0 before the change, what was kept before that stays, if anything: a run that was killed is no state to go
    back to.
    """

    paths: tuple[str, ...]
    well: str
    seconds: float
    unit: Unit


@dataclass(frozen=True, slots=True)
class File:
    """`path` holds `data`, with `mode`, owned by root; written whole or not at all.

    With `secret` the contents are never shown. Where something stands at `unless`, the step leaves `path` alone.
    What was there before is kept as `fallback` says.
    """

    path: str
    data: bytes
    mode: int = 0o644
    secret: bool = False
    unless: str = ""
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """`path` is a directory with `mode`, owned by root; so is whatever had to be made above it, with 0755."""

    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Link:
    """`path` is a symbolic link to `target`."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no file at `path`. A directory there is an error."""

    path: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server that has blobs at `url`/DIGEST (http or https; no login).

    `ca` (PEM) is who signed its certificate; empty where the machine's own CAs know it.
    """

    url: str
    ca: bytes = b""


@dataclass(frozen=True, slots=True)
class Binary:
    """`path` is the blob `digest` (hex SHA-256) of the bundle, of `size` bytes, with `mode`.

    What was placed by us and has not been touched since is known without reading it. The machine fetches the blob from
    `server`; without one it is sent.
    """

    path: str
    digest: str
    size: int
    mode: int = 0o755
    server: Server | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """containerd's namespace `k8s.io` holds `reference` with the manifest digest `target` (`sha256:...`), pinned.

    Where it does not, it is imported from the blob `digest` of the bundle, an OCI archive of `size` bytes, which the
    machine fetches from `server`; without one it is sent.
    """

    reference: str
    target: str
    digest: str
    size: int
    server: Server | None = None


@dataclass(frozen=True, slots=True)
class UnitOff:
    """The systemd unit `name` is neither enabled nor active. One that does not exist is just that."""

    name: str


@dataclass(frozen=True, slots=True)
class Command:
    """`unless` (POSIX sh) exits 0; where it does not, `run` (POSIX sh, as root) is run, and must exit 0.

    Neither may hold a secret: what must stay hidden is `stdin` of `run`. `seconds` is the limit of each.
    """

    title: str
    run: str
    unless: str
    stdin: bytes = b""
    seconds: float = 60


@dataclass(frozen=True, slots=True)
class Wait:
    """`until` (POSIX sh) exits 0 within `seconds`; asked again and again, quickly at first.

    `what` completes "waiting for ...". What `until` wrote last to stderr or stdout is told when time runs out, and so
    is what `explain` (POSIX sh) then writes. Where `until` exits with 2 the outcome is certain: it fails at once.
    With `evidence` both are in the form that `bootstrap.diagnosis` reads, and what is told is its verdict.

    Where it fails, `fallback` says what is put back. With `last` there is nothing to go back to once it succeeded.
    """

    what: str
    until: str
    seconds: float
    explain: str = ""
    evidence: bool = False
    fallback: Fallback | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Hook:
    """The command `argv` is run on the machine, as root, each time, and must exit 0 within `seconds`.

    With `script` (a file's contents) its path there is the last word. `environment` is put upon the machine's own, and
    standard input is empty. What it changes nobody knows, and is not counted as a change. `name` is for messages.
    """

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    seconds: float
    script: bytes = b""


HostStep = File | Directory | Link | Absent | Binary | Image | Unit | UnitOff | Command | Wait | Hook


@dataclass(frozen=True, slots=True)
class ApiObject:
    """The object `manifest` is in the cluster, and every field it names has the value given there (server-side apply).

    With `unless_exists` an object of that name is left as it is.
    """

    manifest: Json
    unless_exists: bool = False


@dataclass(frozen=True, slots=True)
class ApiAbsent:
    """There is no object with this `apiVersion`, `kind`, `namespace` and name."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class NodeMarks:
    """The Node `name` has these labels and taints, beside others. A taint is `(key, value, effect)`.

    `absent_taints` are keys and effects of taints that it must not have. `remembered` names some of those given, a
    label by its key and a taint by `key:effect`: what was remembered of the Node and is given no more is taken away.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[tuple[str, str, str], ...] = ()
    absent_taints: tuple[tuple[str, str], ...] = ()
    remembered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiWait:
    """`until`, given the object (None where there is none), returns True within `seconds`.

    `what` completes "waiting for ...". A text that `until` returns is why not yet, and is told when time runs out.
    """

    what: str
    api_version: str
    kind: str
    name: str
    namespace: str
    until: Callable[[Json | None], bool | str]
    seconds: float


ApiStep = ApiObject | ApiAbsent | NodeMarks | ApiWait


@dataclass(frozen=True, slots=True)
class Learner:
    """etcd counts the member `name`, whose peer URL is `peer`, among its own; where it did not, it is a learner.

    `lost` is the id of a former member of this host, whose data are gone: it is taken out before (0: there is none).
    `withdrawn` is what is true on the machine where the member did not become a voter, and was taken out again.
    """

    name: str
    peer: str
    lost: int = 0
    withdrawn: tuple[HostStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Voter:
    """The member `name` at `peer` has a vote; it is promoted as soon as it has caught up, within `seconds`."""

    name: str
    peer: str
    seconds: float


EtcdStep = Learner | Voter


@dataclass(frozen=True, slots=True)
class OperatorHook:
    """As `Hook`, but on the operator's machine, with his rights and his environment; a script is there already."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    seconds: float


Step = HostStep | ApiStep | EtcdStep | OperatorHook


def title(step: Step) -> str:
    """Name a step for people, in at most one line and without any secret."""
    match step:
        case File(path=path) | Directory(path=path) | Link(path=path) | Absent(path=path) | Binary(path=path):
            return path
        case Image(reference=reference):
            return f"image {reference}"
        case Unit(name=name) | UnitOff(name=name):
            return name
        case Command(title=text):
            return text
        case Wait(what=what) | ApiWait(what=what):
            return what
        case ApiObject(manifest=manifest):
            return _object(manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        case ApiAbsent(kind=kind, namespace=namespace, name=name):
            return _object(kind, namespace, name)
        case NodeMarks(name=name):
            return f"labels and taints of Node {name}"
        case Learner(name=name):
            return f"etcd member {name}"
        case Voter(name=name):
            return f"vote of etcd member {name}"
        case Hook(name=name) | OperatorHook(name=name):
            return f"hook {name}"


def _object(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def hidden(steps: Sequence[Step]) -> tuple[bytes, ...]:
    """Give what `steps` carry that must not be told: the contents of secret files, and input of commands."""
    files = [step.data for step in steps if isinstance(step, File) and step.secret]
    return (*files, *(step.stdin for step in steps if isinstance(step, Command) and step.stdin))


def receipt(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """List what `steps` may leave on a machine, as (kind, path or name): files, directories, units, images."""
    left: list[tuple[str, str]] = []
    for step in steps:
        match step:
            case File(path=path) | Link(path=path) | Binary(path=path):
                left.append(("file", path))
            case Directory(path=path):
                left.append(("directory", path))
            case Unit(name=name):
                left.append(("unit", name))
            case Image(reference=reference):
                left.append(("image", reference))
            case _:
                pass
    return left
