"""What was set in a configuration that stands: its differences from the one that we would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_EMPTY: tuple[object, ...] = (None, "", "0", "0s", {}, [])
_EMPTY_TOO = (
    "bindAddressHardFail",
    "burst",
    "enableDSR",
    "enableProfiling",
    "flushFrequency",
    "forwardHealthCheckVip",
    "masqueradeAll",
    "qps",
    "strictARP",
    "tcpBeLiberal",
    "verbosity",
)
"""Fields of KubeletConfiguration and KubeProxyConfiguration whose 0 or false is what nobody set, and written out."""
_MEANT = ("resolvConf", "tcpCloseWaitTimeout", "tcpEstablishedTimeout")
"""Fields whose empty value says something; where nobody set them they are null or absent."""


def overlay(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, absent: bool = True) -> dict[str, Any]:
    """Give what makes `theirs` of `ours` when it is put upon them (`render.merge`).

    Go's empty values of fields that nobody set, which kubeadm writes out, are none. With `absent` what only `ours` have
    is taken away by null.
    """
    found: dict[str, Any] = {}
    for key, value in theirs.items():
        mine = ours.get(key)
        if value == mine or _is_empty(key, value):
            continue
        if isinstance(value, Mapping):
            below = overlay(value, mine if isinstance(mine, Mapping) else {}, absent=absent)
            if below:
                found[key] = below
        else:
            found[key] = value
    return found | {key: None for key in ours if absent and key not in theirs}


def common(each: Sequence[Any]) -> Any:
    """Give the value that all have alike, None where they have not."""
    return each[0] if each and all(value == each[0] for value in each) else None


def _is_empty(key: str, value: object) -> bool:
    if key in _MEANT:
        return value is None
    if key in _EMPTY_TOO and value in (0, False):
        return True
    return not isinstance(value, bool | int) and value in _EMPTY
