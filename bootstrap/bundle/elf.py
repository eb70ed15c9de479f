"""What a program was compiled for, by its ELF header (System V ABI, chapter 4)."""

from __future__ import annotations

from pathlib import Path

_MAGIC = b"\x7fELF"
_MACHINES = {62: "amd64", 183: "arm64"}


def architecture(program: Path) -> str | None:
    """Give Go's name of the processor that `program` is for; None where it is no program, or for another one."""
    with program.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != _MAGIC:
        return None
    order = "little" if header[5] == 1 else "big"
    return _MACHINES.get(int.from_bytes(header[18:20], order))  # type: ignore[arg-type]
