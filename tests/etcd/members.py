"""Members of an etcd cluster that answer calls of its gateway as real ones do; real ones are in tests/lab."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost

CLUSTER = 0xC1
UNCONFIRMED = Result(
    1, b"", b"Error from server (ServiceUnavailable): the server is currently unable to handle the request"
)
REFUSED = Result(
    1, b"", b"The connection to the server 127.0.0.1:2379 was refused - did you specify the right host or port?"
)
COMPACTED = Result(1, b"", b"Error from server (BadRequest): the server rejected our request for an unknown reason")
UNKNOWN = Result(1, b"", b"Error from server (NotFound): the server could not find the requested resource")
DATABASE = bytes(16) + bytes.fromhex("edda0ced") + bytes(8192 - 20)
SNAPSHOT = DATABASE + hashlib.sha256(DATABASE).digest()


def answer(member: int, **fields: Any) -> dict[str, Any]:
    """Give a status as the gateway does: numbers of 64 bits as text, and what is zero left out."""
    header = {"cluster_id": str(fields.pop("cluster", CLUSTER)), "member_id": str(member), "revision": "40"}
    given = {
        "header": header,
        "version": "3.7.3",
        "dbSize": "8192",
        "dbSizeInUse": "8192",
        "dbSizeQuota": "100000000",
        "leader": "1",
        "raftTerm": "2",
        "raftIndex": "50",
        "raftAppliedIndex": "50",
        **{
            name: str(value) if isinstance(value, int) and value is not True else value
            for name, value in fields.items()
        },
    }
    return {name: value for name, value in given.items() if value != "0"}


@dataclass
class Etcd:
    """A cluster: which of its members is asked for what, in order, and what they answer."""

    names: tuple[str, ...]
    free: int = 1_000_000
    may_ask_all: bool = False
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    on: Callable[[str, str, Any], Result | None] = lambda *_: None

    def __post_init__(self) -> None:
        for number, name in enumerate(self.names, 1):
            self.states[name] = answer(number)

    @property
    def hosts(self) -> dict[str, Member]:
        return {name: Member(name, self) for name in self.names}

    def calls(self, path: str) -> list[str]:
        return [name for name, asked, _ in self.asked if asked == path]

    def tell(self, name: str) -> Result:
        """Give what the script `voice.sh` writes on the member's machine."""
        if name in self.down:
            return Result(1, b"", REFUSED.stderr)
        leads = "leader" in self.states[name]
        return Result(0, voice(self.names, name, leader=leads, committed=self.states[name]["raftIndex"]), b"")

    def give(self, name: str, path: str, body: Any) -> Result:
        self.asked.append((name, path, body))
        if name in self.down:
            return REFUSED
        if given := self.on(name, path, body):
            return given
        match path:
            case "/v3/maintenance/status":
                return said(self.states[name])
            case "/v3/cluster/member/list":
                assert self.may_ask_all or body == {"linearizable": False}, "it would need a quorum"
                members = [
                    {"ID": str(number), "name": each, "peerURLs": [f"https://{each}:2380"]}
                    for number, each in enumerate(self.names, 1)
                    if str(number) not in self.removed
                ]
                return said({"members": members})
            case "/v3/maintenance/defragment":
                self.states[name]["dbSize"] = self.states[name]["dbSizeInUse"]
                return said({})
            case "/v3/cluster/member/remove":
                if body["ID"] in self.removed:
                    return UNKNOWN
                self.removed.append(body["ID"])
                return said({})
            case "/v3/maintenance/transfer-leadership":
                for state in self.states.values():
                    state["leader"] = body["targetID"]
                return said({})
            case "/v3/kv/range" | "/v3/kv/compaction" | "/v3/maintenance/alarm":
                return said({})
        raise AssertionError(path)


class Member(LocalHost):
    def __init__(self, name: str, etcd: Etcd) -> None:
        super().__init__(name)
        self.etcd = etcd

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        if command.startswith("df "):
            listing = (
                f"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 9 9 {self.etcd.free} 9% /var\n"
            )
            return Result(0, listing.encode(), b"")
        if command == "sh -s":
            return self.etcd.tell(self.name)
        found = re.search(r"kubectl create .*--raw (\S+)", command)
        assert found, command
        assert isinstance(stdin, bytes)
        result = self.etcd.give(self.name, found[1], json.loads(stdin))
        assert on_line
        for line in result.stdout.splitlines():
            on_line(line)
        return Result(result.status, b"", result.stderr)


def voice(
    names: Iterable[str], own: str, *, leader: bool, committed: str = "50", learners: Iterable[str] = ()
) -> bytes:
    """Give what `voice.sh` writes for the member `own` of a cluster of `names`."""
    ids = {name: number for number, name in enumerate(names, 1)}
    listed = [
        {"id": ids[name], "name": name, "peerURLs": [f"https://{name}:2380"], "isLearner": name in learners}
        for name in ids
    ]
    told = {"members": json.dumps(listed), "leader": str(int(leader)), "committed": committed, "id": f"{ids[own]:x}"}
    return "".join(f"{key}\t{value}\n" for key, value in told.items()).encode()


def said(*answers: Any) -> Result:
    return Result(0, b"\n".join(json.dumps(each).encode() for each in answers), b"")


def streamed(data: bytes, *, total: int, size: int = 5000) -> Result:
    """Give `data` of a snapshot with `total` bytes before the hash, as the gateway streams it."""
    lines, left = [], total
    for at in range(0, len(data), size):
        blob = data[at : at + size]
        left = max(0, left - len(blob))
        lines.append({"result": {"blob": base64.b64encode(blob).decode(), "version": "3.7.0"}})
        if left:
            lines[-1]["result"]["remaining_bytes"] = str(left)
    return said(*lines)
