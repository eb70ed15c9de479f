"""The kinds of values an inventory holds: parsed strictly, refused with what is wrong, why and what to write.

Each refusal is a `PydanticCustomError` made by `mistake`; `bootstrap.inventory` adds the place in the file.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema
from pydantic_core import PydanticCustomError

REGISTRY_SERVERS = {"docker.io": "registry-1.docker.io"}
"""Servers of registries that are not the ones in the names of their images."""

ProblemId = Literal[
    "inventory-address-in-subnet",
    "inventory-alias",
    "inventory-ambiguous-number",
    "inventory-ambiguous-word",
    "inventory-api-version",
    "inventory-args-dashes",
    "inventory-args-mapping",
    "inventory-bad-address",
    "inventory-bad-ca-hash",
    "inventory-bad-choice",
    "inventory-bad-duration",
    "inventory-bad-env",
    "inventory-bad-flag",
    "inventory-bad-hook",
    "inventory-bad-host-key",
    "inventory-bad-interface",
    "inventory-bad-key",
    "inventory-bad-label",
    "inventory-bad-name",
    "inventory-bad-patch",
    "inventory-bad-path",
    "inventory-bad-proxy-jump",
    "inventory-bad-san",
    "inventory-bad-subnet",
    "inventory-bad-taint",
    "inventory-bad-url",
    "inventory-bad-user",
    "inventory-bad-version",
    "inventory-cgroup-driver",
    "inventory-dual-stack",
    "inventory-duplicate-address",
    "inventory-duplicate-env",
    "inventory-duplicate-host",
    "inventory-duplicate-key",
    "inventory-duplicate-node-address",
    "inventory-duplicate-role",
    "inventory-duplicate-taint",
    "inventory-duplicate-volume",
    "inventory-empty",
    "inventory-empty-list",
    "inventory-empty-value",
    "inventory-encoding",
    "inventory-endpoint-port",
    "inventory-etcd-both",
    "inventory-etcd-role",
    "inventory-family-mismatch",
    "inventory-host-bits",
    "inventory-kind",
    "inventory-kubeadm-document",
    "inventory-kubeadm-host",
    "inventory-kubeadm-twice",
    "inventory-kubeadm-unreadable",
    "inventory-kubeadm-unsupported",
    "inventory-kubeadm-version",
    "inventory-merge-key",
    "inventory-missing-key",
    "inventory-no-control-plane",
    "inventory-not-a-mapping",
    "inventory-out-of-range",
    "inventory-restricted-label",
    "inventory-several-documents",
    "inventory-subnet-too-large",
    "inventory-subnet-too-small",
    "inventory-subnets-overlap",
    "inventory-syntax",
    "inventory-tab",
    "inventory-tag",
    "inventory-too-deep",
    "inventory-too-few-pod-networks",
    "inventory-unknown-key",
    "inventory-unquoted-text",
    "inventory-unreadable",
    "inventory-unsupported-version",
    "inventory-unusable-address",
    "inventory-unused",
    "inventory-validity",
    "inventory-wrong-type",
]
"""Every kind of mistake that an inventory can be refused for; docs/inventory.md explains them."""

IPv4Or6Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPv4Or6Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SSH_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_CA_CERT_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_PUBLIC_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( .*)?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DURATION = re.compile(r"([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?")
_VERSION = re.compile(r"1\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")
_FLAG = re.compile(r"[a-z0-9][a-z0-9-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_INTERFACE = re.compile(r"[^\s/:\"']{1,15}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,127}[$]?")
_HOP = r"([^@\s,-][^@\s,]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(:[0-9]{1,5})?"
_PROXY_JUMP = re.compile(rf"{_HOP}(,{_HOP})*")
_SECONDS = {"h": 3600, "m": 60, "s": 1}

ROLE_LABEL_PREFIX = "node-role.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_KUBELET_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


def mistake(problem: ProblemId, what: str, why: str = "", fix: str = "") -> PydanticCustomError:
    """Make the error a validator raises: `what` is wrong, `why` it matters, the `fix` to write."""
    text = "; ".join(part for part in (what, why, fix) if part)
    return PydanticCustomError(problem, "{text}", {"text": text, "what": what, "why": why, "fix": fix})


def shown(value: object) -> str:
    """Quote a value for a message, shortened where it is long."""
    text = str(value)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def described(value: object) -> str:
    """Name a value of the wrong type for a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {shown(value)}" if isinstance(value, str) else f"{str(value).lower()}"


def seconds(duration: str) -> int:
    """Give the seconds of a `Duration`: `1h30m` is 5400."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", duration))


def ip_address(text: str) -> IPv4Or6Address | None:
    """Read an IP address without a zone; None where `text` is not one."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def is_dns_name(text: str) -> bool:
    """Whether `text` is a lower-case DNS name of at most 253 characters."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None and not _looks_like_ip(text)


def _looks_like_ip(text: str) -> bool:
    return text.count(".") == 3 and text.replace(".", "").isdigit()


def _dns_label(text: str) -> str:
    if _DNS_LABEL.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-name",
        f"{shown(text)} is not a valid name",
        "it must be 1 to 63 lower-case letters, digits and dashes, with no dash at either end",
        _name_fix(text.replace(".", "-")),
    )


def _dns_name(text: str) -> str:
    if is_dns_name(text):
        return text
    raise mistake(
        "inventory-bad-name",
        f"{shown(text)} is not a valid DNS name",
        "it must be lower-case letters, digits and dashes in parts of at most 63, joined by dots, 253 in all",
        _name_fix(text),
    )


def _name_fix(text: str) -> str:
    guess = re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")
    return f"write for example {shown(guess)}" if is_dns_name(guess) else "choose such a name"


def _absolute_path(text: str) -> str:
    if text.startswith("/") and text.isprintable():
        return text
    raise mistake(
        "inventory-bad-path",
        f"{shown(text)} is not an absolute path",
        "this is a path on the machines, where no current folder exists",
        "write it from the root, as in /var/lib/example",
    )


def _registry_host(text: str) -> str:
    name, _, port = text.partition(":")
    named = is_dns_name(name) or ip_address(name)
    if text == "*" or (named and (":" not in text or port.isdecimal())):
        return text
    raise mistake(
        "inventory-bad-name",
        f"{shown(text)} is not the host of a registry",
        "it is what stands before the first slash of an image's name",
        'write for example docker.io or registry.example.com:5000, or "*" for all others',
    )


def _web_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 443)
        bare = usable and not (parts.query or parts.fragment) and text.isprintable() and not set(text) & set(' "\\%')
    except ValueError:
        bare = False
    if bare and "@" in parts.netloc:
        raise mistake(
            "inventory-bad-url",
            f"the address of {shown(parts.hostname)} has a login in it",
            "inventories are shown, copied and kept under version control",
            "take it out; registries' logins are in the file that authFile names",
        )
    if bare and (ip_address(parts.hostname or "") or is_dns_name(parts.hostname or "")):
        return text
    raise mistake(
        "inventory-bad-url",
        f"{shown(text)} is not the address of a server",
        "machines are told it as it stands",
        "write for example https://mirror.example.com:5000",
    )


def _no_proxy(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.:/*_-]+", text):
        return text
    raise mistake(
        "inventory-bad-name",
        f"{shown(text)} is no name, address or subnet",
        "it is told to containerd in a list with commas",
        "write each as an entry of its own, as in .example.com or 192.0.2.0/24",
    )


def local_path(text: str) -> str:
    """Check the name of a file on the operator's machine."""
    if text and text.isprintable():
        return text
    raise mistake(
        "inventory-bad-path",
        f"{shown(text)} is not a path",
        "it is empty or holds unprintable characters",
        "name a file on this machine, absolute or relative to the inventory's folder",
    )


def _duration(text: str) -> str:
    if _DURATION.fullmatch(text) and seconds(text) > 0:
        return text
    days = re.fullmatch(r"([0-9]{1,9})d", text)
    raise mistake(
        "inventory-bad-duration",
        f"{shown(text)} is not a duration",
        "it must be whole hours, minutes and seconds, in this order, more than zero",
        f"write {int(days[1]) * 24}h" if days and int(days[1]) else "write for example 8760h, 5m or 1h30m",
    )


def _version(text: str) -> str:
    if _VERSION.fullmatch(text):
        return text
    bare = text.removeprefix("v")
    fix = 'write major, minor and patch, as in "1.37.2"'
    if bare != text and re.fullmatch(r"1\.[0-9]+\.[0-9]+", bare):
        fix = f'leave out the "v": "{bare}"'
    raise mistake(
        "inventory-bad-version",
        f"{shown(text)} is not a Kubernetes version",
        "artifacts exist for exact releases only",
        fix,
    )


def _network(value: object) -> object:
    if isinstance(value, IPv4Or6Network):
        return value
    if not isinstance(value, str):
        raise mistake("inventory-wrong-type", f"{described(value)} stands here", "a subnet is text", "write one")
    if "," in value:
        raise mistake(
            "inventory-dual-stack",
            f"{shown(value)} names more than one subnet",
            "clusters of two address families are not supported yet",
            "give one subnet",
        )
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise _bad_subnet(value) from None
    if not re.fullmatch(r"[^/]+/[0-9]{1,3}", value):
        raise _bad_subnet(value)
    if ipaddress.ip_interface(value).ip != network.network_address:
        raise mistake(
            "inventory-host-bits",
            f"{shown(value)} has bits set beyond its prefix length",
            "a subnet is named by its first address",
            f"write {network}",
        )
    return network


def _bad_subnet(text: str) -> PydanticCustomError:
    return mistake(
        "inventory-bad-subnet",
        f"{shown(text)} is not a subnet",
        "it must be an address, a slash and a prefix length",
        "write for example 10.244.0.0/16",
    )


def _pod_network(network: IPv4Or6Network) -> IPv4Or6Network:
    mask = node_mask(network)
    if network.prefixlen > mask:
        raise mistake(
            "inventory-subnet-too-small",
            f"{network} cannot be cut into a /{mask} for each node",
            f"every node gets a /{mask} of the Pod subnet",
            f"use a prefix length of at most {mask}",
        )
    if mask - network.prefixlen > 16:
        raise mistake(
            "inventory-subnet-too-large",
            f"{network} is too large for a Pod subnet",
            f"the controller-manager keeps at most 2^16 subnets of /{mask}",
            f"use a prefix length of at least {mask - 16}",
        )
    return network


def _service_network(network: IPv4Or6Network) -> IPv4Or6Network:
    host_bits = network.max_prefixlen - network.prefixlen
    if network.num_addresses < 10:
        raise mistake(
            "inventory-subnet-too-small",
            f"{network} holds {network.num_addresses} Service addresses",
            "at least 10 are needed: the API server takes the 1st, DNS the 10th",
            f"use a prefix length of at most {network.max_prefixlen - 4}",
        )
    if host_bits > 20:
        raise mistake(
            "inventory-subnet-too-large",
            f"{network} is too large for a Service subnet",
            "the API server accepts at most 20 host bits",
            f"use a prefix length of at least {network.max_prefixlen - 20}",
        )
    return network


def node_mask(network: IPv4Or6Network) -> int:
    """Give the prefix length of one node's share of a Pod network (the controller-manager's default)."""
    return 24 if network.version == 4 else 64


def _address(value: object) -> object:
    if isinstance(value, IPv4Or6Address):
        return value
    if not isinstance(value, str):
        raise mistake("inventory-wrong-type", f"{described(value)} stands here", "an address is text", "write one")
    address = ip_address(value)
    if address is None:
        raise mistake(
            "inventory-bad-address",
            f"{shown(value)} is not an IP address",
            "names, ports, zones and prefix lengths don't belong here",
            "write for example 192.0.2.10",
        )
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise mistake(
            "inventory-unusable-address",
            f"{address} cannot be reached from other machines",
            "it is a loopback, unspecified, multicast or link-local address",
            "give the address other machines of the cluster use",
        )
    return address


def _ssh_address(text: str) -> str:
    if ip_address(text) or (_SSH_NAME.fullmatch(text) and not _looks_like_ip(text)):
        return text
    what = f"{shown(text)} is not an address or a host name"
    if "@" in text:
        raise mistake("inventory-bad-address", what, "it names a user, too", "put the user into ssh.user")
    if re.fullmatch(r"[^:]+:[0-9]+", text):
        raise mistake("inventory-bad-address", what, "it names a port, too", "put the port into ssh.port")
    raise mistake(
        "inventory-bad-address",
        what,
        "it is where SSH connects to: an IP address, a DNS name or a Host of ~/.ssh/config",
        "write for example 192.0.2.10 or node1.example.com",
    )


def _name_or_address(text: str) -> str:
    if ip_address(text) or is_dns_name(text):
        return text
    raise mistake(
        "inventory-bad-address",
        f"{shown(text)} is not an IP address or a DNS name",
        "clients put it after https://, and it stands in the API server's certificate",
        "give the name alone, in lower case; the port has its own key",
    )


def _san(text: str) -> str:
    if ip_address(text) or is_dns_name(text.removeprefix("*.")):
        return text
    raise mistake(
        "inventory-bad-san",
        f"{shown(text)} is not an IP address or a DNS name",
        "a certificate's alternative names are only these",
        'write for example 192.0.2.10, api.example.com or "*.example.com"',
    )


def _etcd_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.port and parts.hostname and parts.path in {"", "/"}
        bare = usable and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        bare = False
    if bare and (ip_address(parts.hostname or "") or is_dns_name(parts.hostname or "")):
        return text
    raise mistake(
        "inventory-bad-url",
        f"{shown(text)} is not an https address with a port",
        "etcd's clients are told by certificate, so plain http is refused",
        "write for example https://etcd1.example.com:2379",
    )


def _flag(text: str) -> str:
    if _FLAG.fullmatch(text):
        return text
    bare, _, value = text.lstrip("-").partition("=")
    if text.startswith("-") and _FLAG.fullmatch(bare):
        fix = f"write name: {bare}" + (f" and value: {shown(value)}" if value else "")
        raise mistake(
            "inventory-args-dashes",
            f"{shown(text)} begins with dashes",
            "they are added when the command line is made",
            fix,
        )
    raise mistake(
        "inventory-bad-flag",
        f"{shown(text)} is not the name of a flag",
        "it must be lower-case letters, digits and dashes",
        "give the name alone; its value goes into value",
    )


def _env_name(text: str) -> str:
    if _ENV_NAME.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-env",
        f"{shown(text)} is not the name of an environment variable",
        "it must be letters, digits, underscores, dots and dashes, and not begin with a digit",
        "write for example HTTPS_PROXY",
    )


def _qualified(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (is_dns_name(prefix) if slash else True)


def _label_key(text: str) -> str:
    if not _qualified(text):
        raise mistake(
            "inventory-bad-label",
            f"{shown(text)} is not a label's key",
            "it must be a name of 1 to 63 letters, digits, - _ . after an optional DNS name and a slash",
            "write for example example.com/rack",
        )
    domain = text.rpartition("/")[0]
    if kubelet_may_set(text) or domain == ROLE_LABEL_PREFIX:
        return text
    raise mistake(
        "inventory-restricted-label",
        f"a kubelet may not set the label {shown(text)} on its own Node",
        "the API server's NodeRestriction keeps such prefixes for administrators",
        "use a domain of your own, as in example.com/rack, or set it with kubectl afterwards",
    )


def kubelet_may_set(key: str) -> bool:
    """Whether NodeRestriction lets a kubelet put this label on its own Node when it registers."""
    domain = key.rpartition("/")[0]
    if not _within(domain, ("kubernetes.io", "k8s.io")) or key in _KUBELET_LABELS:
        return True
    return _within(domain, _KUBELET_LABEL_DOMAINS)


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)


def _label_value(text: str) -> str:
    if not text or _QUALIFIED.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-label",
        f"{shown(text)} is not a label's value",
        "it must be empty or at most 63 letters, digits, - _ . with a letter or digit at both ends",
        "shorten it, or replace other characters",
    )


def _taint_key(text: str) -> str:
    if _qualified(text):
        return text
    raise mistake(
        "inventory-bad-taint",
        f"{shown(text)} is not a taint's key",
        "it must be a name of 1 to 63 letters, digits, - _ . after an optional DNS name and a slash",
        "write for example example.com/gpu; value and effect have their own keys",
    )


def _taint_value(text: str) -> str:
    if not text or _QUALIFIED.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-taint",
        f"{shown(text)} is not a taint's value",
        "it must be empty or at most 63 letters, digits, - _ . with a letter or digit at both ends",
        "shorten it, or replace other characters",
    )


def _user(text: str) -> str:
    if _USER.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-user",
        f"{shown(text)} is not the name of a user",
        "it must be letters, digits, - _ . and not begin with a dash",
        "write for example root or debian",
    )


def _interface_name(text: str) -> str:
    if _INTERFACE.fullmatch(text) and text not in {".", ".."}:
        return text
    raise mistake(
        "inventory-bad-interface",
        f"{shown(text)} is not the name of a network interface",
        "it must be 1 to 15 characters, without blanks, slashes and colons",
        "write for example eth0; `ip link` lists a machine's",
    )


def _host_key(text: str) -> str:
    if _FINGERPRINT.fullmatch(text):
        return text
    if _PUBLIC_KEY.fullmatch(text):
        kind, encoded = text.split()[:2]
        with contextlib.suppress(binascii.Error):
            if base64.b64decode(encoded, validate=True).startswith(len(kind).to_bytes(4, "big") + kind.encode()):
                return text
    raise mistake(
        "inventory-bad-host-key",
        f"{shown(text)} is not a host key",
        "it is compared with the key that the machine shows",
        "write a line of ssh-keyscan without the name, as in ssh-ed25519 AAAA..., or a fingerprint of "
        "ssh-keygen -l, as in SHA256:...",
    )


def _ca_cert_hash(text: str) -> str:
    if _CA_CERT_HASH.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-ca-hash",
        f"{shown(text)} is not the hash of a CA's public key",
        "machines of another cluster are known by it",
        "write sha256: and 64 hexadecimal digits, as kubestrap adopt and kubestrap token create tell them",
    )


def _proxy_jump(text: str) -> str:
    if _PROXY_JUMP.fullmatch(text):
        return text
    raise mistake(
        "inventory-bad-proxy-jump",
        f"{shown(text)} is not a list of jump hosts",
        "it is what OpenSSH's ProxyJump takes",
        "write for example admin@bastion.example.com:22, or none to use no jump host",
    )


Kubeadm = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "file on your machine, or mapping, or list of mappings",
            "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {"type": "object"}}],
        }
    ),
]
"""Documents of kubeadm's. `bootstrap.kubeadm` takes them apart before models are made."""


def _text(words: str, pattern: str) -> WithJsonSchema:
    """Say in a JSON Schema what a text must be, as far as a pattern can; the words stand in the documents, too."""
    return WithJsonSchema({"type": "string", "description": words, "pattern": f"^(?:{pattern})$"})


_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IP = rf"({_BYTE}\.){{3}}{_BYTE}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
_NO_IP = r"(?![0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$)"
_NAME = rf"{_NO_IP}{_DNS_NAME.pattern}"
_KEY = rf"({_NAME}/)?{_QUALIFIED.pattern}"
_SUBNET = _text("subnet", rf"({_IP})/[0-9]{{1,3}}")

DnsLabel = Annotated[str, AfterValidator(_dns_label), _text("name of one DNS label", _LABEL)]
DnsName = Annotated[str, AfterValidator(_dns_name), _text("DNS name", _NAME)]
NameOrAddress = Annotated[str, AfterValidator(_name_or_address), _text("DNS name or IP address", f"{_NAME}|{_IP}")]
SshAddress = Annotated[
    str,
    AfterValidator(_ssh_address),
    _text("IP address, DNS name or Host of ~/.ssh/config", f"{_NO_IP}{_SSH_NAME.pattern}|{_IP}"),
]
San = Annotated[str, AfterValidator(_san), _text("DNS name or IP address", rf"(\*\.)?{_NAME}|{_IP}")]
EtcdUrl = Annotated[str, AfterValidator(_etcd_url), _text("https URL with a port", "https://[^@/?#]+:[0-9]+/?")]
RegistryHost = Annotated[
    str, AfterValidator(_registry_host), _text("host of a registry, or * for all others", r"\*|[A-Za-z0-9.:-]+")
]
WebUrl = Annotated[str, AfterValidator(_web_url), _text("http or https URL", "https?://[^@?#]+")]
NoProxy = Annotated[str, AfterValidator(_no_proxy), _text("name, address or subnet", "[A-Za-z0-9.:/*_-]+")]
Flag = Annotated[str, AfterValidator(_flag), _text("flag without dashes", _FLAG.pattern)]
EnvName = Annotated[str, AfterValidator(_env_name), _text("name of a variable", _ENV_NAME.pattern)]
LabelKey = Annotated[str, AfterValidator(_label_key), _text("label key", _KEY)]
LabelValue = Annotated[str, AfterValidator(_label_value), _text("label value", f"({_QUALIFIED.pattern})?")]
TaintKey = Annotated[str, AfterValidator(_taint_key), _text("label key", _KEY)]
TaintValue = Annotated[str, AfterValidator(_taint_value), _text("label value", f"({_QUALIFIED.pattern})?")]
User = Annotated[str, AfterValidator(_user), _text("user name", _USER.pattern)]
InterfaceName = Annotated[str, AfterValidator(_interface_name), _text("interface name", _INTERFACE.pattern)]
HostKey = Annotated[
    str,
    AfterValidator(_host_key),
    _text("public key or its SHA256 fingerprint", f"{_FINGERPRINT.pattern}|{_PUBLIC_KEY.pattern}"),
]
"""What a machine's host key must be."""
CaCertHash = Annotated[
    str, AfterValidator(_ca_cert_hash), _text("hash of a CA's public key, as in kubeadm", _CA_CERT_HASH.pattern)
]
ProxyJump = Annotated[
    str, AfterValidator(_proxy_jump), _text("jump hosts as in OpenSSH's ProxyJump", _PROXY_JUMP.pattern)
]
Version = Annotated[str, AfterValidator(_version), _text("version, as in 1.37.2", _VERSION.pattern)]
Bool = StrictBool
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Count = Annotated[int, Field(ge=1, le=1000, strict=True)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path), _text("absolute path on the machines", "/.*")]
LocalPath = Annotated[str, AfterValidator(local_path), _text("file on your machine", ".+")]
"""A file on the operator's machine; `inventory.load` makes it absolute."""
Duration = Annotated[str, AfterValidator(_duration), _text("duration, as in 1h30m", rf"(?=.*[1-9]){_DURATION.pattern}")]
"""A Go duration of whole hours, minutes and seconds: `8760h`, `1h30m`."""
Network = Annotated[IPv4Or6Network, BeforeValidator(_network), _SUBNET]
PodNetwork = Annotated[Network, AfterValidator(_pod_network), _SUBNET]
ServiceNetwork = Annotated[Network, AfterValidator(_service_network), _SUBNET]
Address = Annotated[IPv4Or6Address, BeforeValidator(_address), _text("IP address", _IP)]
