"""Many steps of one machine in one round trip: a tar on standard input, one POSIX sh script, answers line by line.

The tar is unpacked in memory (/run, 0700) and gone when the script ends. Nothing secret stands in the command.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from shlex import quote
from typing import BinaryIO, Literal, assert_never

from bootstrap import paths
from bootstrap.steps import (
    Absent,
    Binary,
    Command,
    Directory,
    Fallback,
    File,
    Hook,
    HostStep,
    Image,
    Link,
    Unit,
    UnitOff,
    Wait,
    receipt,
)

FailureKind = Literal["step", "time", "state", "lock"]

COMMAND = (
    "umask 077; mkdir -p /run/kubestrap && "
    'd=$(mktemp -d "/run/kubestrap/run.${KUBESTRAP_RUN:-0}.XXXXXXXX") || exit 1; '
    'trap \'rm -rf "$d"\' EXIT; trap "exit 129" HUP; trap "exit 130" INT; trap "exit 143" TERM; '
    'tar -xf - -C "$d" && sh "$d/main.sh" "$d"'
)
"""Runs the batch that comes on standard input."""

RECEIVE = (
    f"umask 077; mkdir -p {paths.BLOBS} && cd {paths.BLOBS} && rm -f -- *.part && {{ tar -xf - || {{ "
    f'df -P -k . | awk \'NR == 2 {{ print int($4 / 1024) " MiB are left on " $NF " for {paths.BLOBS}" }}\' >&2; '
    "rm -f -- *.part; exit 1; }; } && "
    'for f in *.part; do [ "$(sha256sum <"$f" | cut -c 1-64)" = "${f%.part}" ] || '
    '{ echo "${f%.part} arrived altered" >&2; rm -f -- *.part; exit 1; }; mv -f -- "$f" "${f%.part}"; done'
)
"""Takes blobs in: a tar of files named `DIGEST.part`, each checked before it gets its name."""


@dataclass(frozen=True, slots=True)
class Same:
    """Step number `step` found everything right."""

    step: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Step number `step` changed something; `how` says it in a word or two."""

    step: int
    how: str


@dataclass(frozen=True, slots=True)
class Ran:
    """Step number `step`, a hook, was run, and exited 0; `text` is the last of what it said."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """Step number `step` has been waiting for `elapsed` seconds."""

    step: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class Needed:
    """The machine lacks the blob `digest`."""

    digest: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Step number `step` failed, and none after it was begun.

    `time`: a limit ran out; `state`: it can't come about; `lock`: the run does not hold the machine's lock any more.
    """

    step: int
    kind: FailureKind
    text: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Step number `step` is about to fail, and `files` as they were before are back; `ill` says where not all is well.

    Without `files` they could not be put back, and `ill` says why.
    """

    step: int
    files: tuple[str, ...]
    ill: str = ""


@dataclass(frozen=True, slots=True)
class Would:
    """Step number `step` would change something, and `how`. `present` is what is there now, as `look.sh` tells it."""

    step: int
    how: str
    present: str = ""


@dataclass(frozen=True, slots=True)
class After:
    """What comes of step number `step` depends on number `on`, which is not done; as things are it would be `how`."""

    step: int
    on: int
    how: str = ""


@dataclass(frozen=True, slots=True)
class Unmet:
    """What step number `step` would wait for is not so now; `text` says why."""

    step: int
    text: str


Answer = Same | Changed | Ran | StillWaiting | Needed | Failed | Restored | Would | After | Unmet


def compile_steps(steps: Sequence[HostStep]) -> bytes:
    """Give the tar that does `steps` in their order, for the standard input of `COMMAND`."""
    return _compile(steps, _doing, "batch.sh", receipt(steps))


def compile_needs(steps: Sequence[HostStep]) -> bytes | None:
    """Give the tar that asks which blobs `steps` lack, or None where they use none that is sent."""
    using = [step for step in steps if isinstance(step, Binary | Image) and step.server is None]
    return _compile(using, _asking, "batch.sh", []) if using else None


def compile_looks(steps: Sequence[HostStep], begins: Collection[int] = ()) -> bytes:
    """Give the tar that finds out what `steps` would do, and changes nothing: it holds no command that could.

    `begins` are the numbers of the steps with which phases begin. Contents of secret files stay here; their digests go.
    """
    return _compile(steps, _looking, "look.sh", [], begins)


def _compile(
    steps: Sequence[HostStep],
    line: Callable[[HostStep, Callable[[bytes | str], str]], str],
    library: str,
    left: Sequence[tuple[str, str]],
    begins: Collection[int] = (),
) -> bytes:
    contents: dict[bytes, str] = {}

    def content(data: bytes | str) -> str:
        return contents.setdefault(data.encode() if isinstance(data, str) else data, str(len(contents)))

    libraries = ("machine.sh", library)
    lines = ["d=$1", *(f'. "$d/{name}"' for name in libraries)]
    if left:
        listed = content("".join(f"{kind}\t{name}\n" for kind, name in dict.fromkeys(left)))
        lines += ["begin 0", f'receipt "$d/{listed}"']
    for number, step in enumerate(steps):
        lines += ["phase"] if number in begins else []
        lines.append(f"begin {number}; {line(step, content)}")
    members = [(name, resources.files("bootstrap").joinpath(name).read_bytes()) for name in libraries]
    members.append(("main.sh", "\n".join([*lines, ""]).encode()))
    members += [(number, data) for data, number in contents.items()]
    return pack(members)


def _doing(step: HostStep, content: Callable[[bytes | str], str]) -> str:
    match step:
        case File(path, data, mode, _, unless, fallback):
            kept = (content(_lines(fallback.paths)), content(fallback.well)) if fallback else ()
            return _call("file", path, f"{mode:o}", content(data), unless, *kept)
        case Directory(path, mode):
            return _call("directory", path, f"{mode:o}")
        case Link(path, target):
            return _call("link", path, target)
        case Absent(path):
            return _call("absent", path)
        case Binary():
            return _call("binary", *_binary(step), *_fetched(step, content))
        case Image():
            return _call("image", *_image(step), *_fetched(step, content))
        case Unit():
            return _call("unit", *_unit(step))
        case UnitOff(name):
            return _call("unit_off", name)
        case Command(_, run, unless, stdin, seconds):
            return _call("command", f"{seconds:g}", content(unless), content(run), content(stdin))
        case Wait(_, until, seconds, explain, _, fallback, last):
            told = content(explain) if explain else ""
            back = _fallback(fallback, content) if fallback else ()
            return _call("wait_until", _milliseconds(seconds), content(until), told, "last" if last else "", *back)
        case Hook(_, argv, environment, seconds, script):
            return _call("hook", f"{seconds:g}", content(_hooked(argv, environment, content(script) if script else "")))
        case _:
            assert_never(step)


def _looking(step: HostStep, content: Callable[[bytes | str], str]) -> str:
    match step:
        case File(path, data, mode, secret, unless, _):
            held = content(hashlib.sha256(data).hexdigest() + "\n" if secret else data)
            return _call("file", path, f"{mode:o}", held, unless, "secret" if secret else "")
        case Command(_, _, unless, _, seconds):
            return _call("command", f"{seconds:g}", content(unless))
        case Wait(_, until, seconds):
            return _call("wait_until", _milliseconds(seconds), content(until))
        case Hook():
            return "same"  # what it would do only it knows
        case _:
            return _doing(step, content)


def _hooked(argv: Sequence[str], environment: Sequence[tuple[str, str]], script: str) -> str:
    """Give sh that runs a hook; its script is the member `script` of the tar."""
    words = " ".join(map(quote, argv))
    told = "".join(f"{name}={quote(value)}\nexport {name}\n" for name, value in environment)
    # Not by its path alone: what is in /run may not be executed.
    return f"{told}cd / && exec {words}" + (f' "${{0%/*}}/{script}"' if script else "")


def _asking(step: HostStep, _: Callable[[bytes | str], str]) -> str:
    if isinstance(step, Binary):
        return _call("need_binary", *_binary(step))
    if isinstance(step, Image):
        return _call("need_image", *_image(step))
    raise TypeError(step)


def _binary(step: Binary) -> tuple[str, ...]:
    return step.path, step.digest, str(step.size), f"{step.mode:o}"


def _image(step: Image) -> tuple[str, ...]:
    return step.reference, step.target, step.digest, str(step.size)


def _fetched(step: Binary | Image, content: Callable[[bytes | str], str]) -> tuple[str, ...]:
    if step.server is None:
        return ()
    return f"{step.server.url}/{step.digest}", content(step.server.ca) if step.server.ca else ""


def _unit(step: Unit) -> tuple[str, ...]:
    return step.name, step.unheeded, *step.uses


def _fallback(fallback: Fallback, content: Callable[[bytes | str], str]) -> tuple[str, ...]:
    kept = content(_lines(fallback.paths))
    return kept, content(fallback.well), _milliseconds(fallback.seconds), *_unit(fallback.unit)


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _call(function: str, *arguments: str) -> str:
    return " ".join([function, *map(quote, arguments)])


def parse(line: bytes) -> Answer:
    """Read one line of a batch's answers. Raises `ValueError` for anything else."""
    kind, *fields = line.decode().split("\t")
    match kind, fields:
        case "same", [step]:
            return Same(int(step))
        case "changed", [step, how]:
            return Changed(int(step), how)
        case "ran", [step, text]:
            return Ran(int(step), _text(text))
        case "wait", [step, milliseconds]:
            return StillWaiting(int(step), int(milliseconds) / 1000)
        case "need", [digest]:
            return Needed(digest)
        case "failed", [step, ("step" | "time" | "state" | "lock") as failure, text]:
            return Failed(int(step), failure, _text(text))
        case "restored", [step, files, ill]:
            return Restored(int(step), tuple(_text(files).splitlines()), _text(ill))
        case "would", [step, how, present]:
            return Would(int(step), how, present)
        case "after", [step, on, how]:
            return After(int(step), int(on), how)
        case "unmet", [step, text]:
            return Unmet(int(step), _text(text))
    raise ValueError(f"not an answer of a batch: {line[:200]!r}")


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace").strip()


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Make a tar of small files, 0600."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            archive.addfile(_member(name, len(data)), io.BytesIO(data))
    return buffer.getvalue()


def stream(blobs: Sequence[tuple[str, int]], open_blob: Callable[[str], BinaryIO]) -> Iterator[bytes]:
    """Give the standard input of `RECEIVE` for `blobs` (digest, size), read piece by piece."""
    for digest, size in blobs:
        yield _member(f"{digest}.part", size).tobuf(tarfile.GNU_FORMAT)
        with open_blob(digest) as source:
            while piece := source.read(1 << 18):
                yield piece
        yield b"\0" * (-size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.RECORDSIZE


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member
