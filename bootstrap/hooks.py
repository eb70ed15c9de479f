"""Hooks: commands of the operator's own, before or after a phase, on the machines or on his own one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

DEFAULT_SHELL = ("/bin/sh",)


@dataclass(frozen=True, slots=True)
class Program:
    """What a hook runs: a command by its words, or a script by its file on the operator's machine.

    `script` is what the file holds, once `inventory.load` has read it. `place` is where it stands in the
    inventory (`inventory.yaml:12`), for messages.
    """

    argv: tuple[str, ...] = ()
    path: str = ""
    script: bytes = field(default=b"", repr=False)
    place: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What messages call it: its place, and the program or script."""
        program = self.path or self.argv[0]
        return f"{self.place} ({program.rpartition('/')[2]})".strip()

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words; of a script, those of its interpreter, after which its path belongs."""
        return self.argv or interpreter(self.script)

    def read(self, path: str, script: bytes) -> Program:
        """Give it with its file's absolute path and contents."""
        return replace(self, path=path, script=script)


def interpreter(script: bytes) -> tuple[str, ...]:
    """Say by which program a script is run: as its first line says (`#!`), as Linux reads that, else by sh."""
    first = script.partition(b"\n")[0].decode(errors="replace")
    if not first.startswith("#!"):
        return DEFAULT_SHELL
    return tuple(first[2:].strip().split(maxsplit=1)) or DEFAULT_SHELL
