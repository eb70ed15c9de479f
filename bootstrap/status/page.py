"""A cluster's status as a page: one file of HTML, CSS and SVG that asks for nothing else, and runs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from bootstrap.report import duration, size
from bootstrap.status.cluster import Certificate, ClusterStatus, HostStatus
from bootstrap.status.runs import Run

WIDTH = 960
LABEL = 190
"""How wide pictures are, and what of it is for the names at their left."""
ROW = 22
_CARD = 150
_CARD_HEIGHT = 64
_PLOT = WIDTH - LABEL - 70
_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class Card:
    """A machine in the picture of the cluster: its place, and `state` (`good`, `bad` or `unknown`) with its reason."""

    x: int
    y: int
    name: str
    title: str
    role: str
    says: str
    state: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a time line. `label` stands at the left of its row (empty: as above), `title` is shown on hovering."""

    y: float
    x: float
    width: float
    label: str
    title: str
    state: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class TimeLine:
    """Bars over an axis."""

    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Fields of templates/status/page.html.j2."""

    status: ClusterStatus
    masters: tuple[Card, ...]
    others: tuple[Card, ...]
    picture_height: int
    lines: tuple[tuple[float, float], ...]
    endpoint_state: str
    certificates: TimeLine
    run: Run | None
    run_says: str
    gantt: TimeLine | None
    refresh: int
    width: int = WIDTH
    label: int = LABEL


def render(status: ClusterStatus, run: Run | None, *, refresh: int = 0) -> str:
    """Give the page, in UTF-8; where `refresh` is not 0 browsers load it again after so many seconds."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bootstrap", "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size
    view = _page(status, run, refresh)
    values = {field.name: getattr(view, field.name) for field in fields(view)}
    return environment.get_template("status/page.html.j2").render(values)


def _page(status: ClusterStatus, run: Run | None, refresh: int) -> Page:
    masters = _cards([host for host in status.hosts if "control-plane" in host.roles], 110)
    below = max((card.y for card in masters), default=46) + _CARD_HEIGHT + 40
    others = _cards([host for host in status.hosts if "control-plane" not in host.roles], below)
    asked = [host.endpoint for host in status.hosts if host.endpoint]
    fine = asked and all(answer == "ok" for answer in asked)
    ending = "goes on, or was killed" if run and run.exit_code is None else f"exit code {run.exit_code if run else ''}"
    return Page(
        status=status,
        masters=masters,
        others=others,
        picture_height=max((card.y for card in (*masters, *others)), default=46) + _CARD_HEIGHT + 12,
        lines=tuple((card.x + _CARD / 2, card.y) for card in masters if card.y == masters[0].y),
        endpoint_state="good" if fine else "bad" if asked else "unknown",
        certificates=_certificates(status.certificates),
        run=run,
        run_says=f"{run.command}, {run.began}, {duration(run.seconds)}, {ending}" if run else "",
        gantt=_gantt(run) if run else None,
        refresh=refresh,
    )


def _cards(hosts: Sequence[HostStatus], top: int) -> tuple[Card, ...]:
    columns = max(1, min(len(hosts), WIDTH // (_CARD + 10)))
    left = (WIDTH - columns * (_CARD + 10)) // 2
    made = []
    for number, host in enumerate(hosts):
        row, column = divmod(number, columns)
        x, y = left + column * (_CARD + 10), top + row * (_CARD_HEIGHT + 10)
        says, state = _state(host)
        role = ", ".join(host.roles) or "not in the inventory"
        made.append(Card(x, y, _middle(host.name.partition(".")[0], 17), host.name, role, _short(says, 24), state))
    return tuple(made)


def _state(host: HostStatus) -> tuple[str, str]:
    if host.error or not host.reached:
        return "not reached" if host.roles else f"Node {host.node}", "bad"
    idle = [unit for unit, state in host.units.items() if state != "active"]
    if idle:
        return f"no {', '.join(idle)}", "bad"
    if host.api not in {"", "ok"}:
        return "API server not ready", "bad"
    if host.node in {"NotReady", "missing"}:
        return f"Node {host.node}", "bad"
    if host.node == "unknown":
        return "Node unknown", "unknown"
    return (f"Ready, {host.kubelet}" if host.node else "runs"), "good"


def _certificates(certificates: Sequence[Certificate]) -> TimeLine:
    """Give a row to each certificate that hosts have, by the one that ends first; the axis bends after a year."""
    firsts: dict[str, Certificate] = {}
    counts: dict[str, int] = {}
    for each in certificates:
        counts[each.name] = counts.get(each.name, 0) + 1
        if each.name not in firsts or each.ends < firsts[each.name].ends:
            firsts[each.name] = each
    ordered = sorted(firsts.values(), key=lambda each: (each.ends, each.name))
    longest = max([_YEAR, *(float(each.days) for each in ordered)])

    def at(days: float) -> float:
        # Half of the axis is the next year: what ends in ten does not hide it.
        near = min(max(days, 0.0), _YEAR) / _YEAR
        far = max(days - _YEAR, 0.0) / (longest - _YEAR) if longest > _YEAR else 0.0
        return _PLOT * (near + far) / 2 if longest > _YEAR else _PLOT * near

    bars = []
    for row, each in enumerate(ordered):
        state = "bad" if each.problem else "good"
        says = each.problem or f"valid until {each.ends}"
        title = f"{each.name} on {each.host} (first of {counts[each.name]} hosts): {says}"
        after = f"{each.days} days" if each.ends else "unreadable"
        bars.append(Bar(row * ROW, LABEL, max(at(each.days), 2.0), _middle(each.name, 26), title, state, after))
    marks = [(0.0, "today"), (91.0, "3 months"), (182.0, "6 months"), (_YEAR, "1 year")]
    marks += [(_YEAR * years, f"{years} years") for years in (5, 10) if _YEAR * years <= longest + 30]
    return TimeLine(len(ordered) * ROW, tuple(bars), tuple(Tick(LABEL + at(days), text) for days, text in marks))


def _gantt(run: Run) -> TimeLine:
    scale = _PLOT / max(run.seconds, 0.001)
    hosts = list(dict.fromkeys(span.host for span in run.spans))
    bars: list[Bar] = []
    row = 0
    for host in hosts:
        free: list[float] = []  # when each row of the host is free again: phases may overlap
        named = False
        for span in (each for each in run.spans if each.host == host):
            lane = next((number for number, end in enumerate(free) if end <= span.begin + 0.01), len(free))
            free[lane : lane + 1] = [span.end]
            title = f"{host}: {span.phase}: {span.state}, {duration(span.end - span.begin)}"
            label = "" if named else _middle(host, 26)
            x, width = LABEL + span.begin * scale, max((span.end - span.begin) * scale, 1.5)
            after = _short(span.phase, int(width / 6.5)) if width > 32 else ""
            bars.append(Bar((row + lane) * ROW, x, width, label, title, span.state, after))
            named = True
        row += len(free)
    return TimeLine(row * ROW, tuple(bars), tuple(_seconds(run.seconds, scale)))


def _seconds(length: float, scale: float) -> Iterator[Tick]:
    rough = max(length, 0.001) / 6
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    for number in range(int(length / step) + 1):
        yield Tick(LABEL + number * step * scale, duration(number * step))


def _middle(text: str, length: int) -> str:
    """Shorten a name, and keep its end: hosts are told apart by it."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length // 2) :]}"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: max(length - 1, 1)]}…"
