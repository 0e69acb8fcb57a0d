"""The bars that Warren is held to, and whether one lies beyond what any pair of proxies reached in the same run: the floor."""

import dataclasses

from .figures import form, ratios
from .measures import MEASURES


MEASURES_OF = {}  # a ratio's name -> the keys of its measures
for _measure in MEASURES.values():
    MEASURES_OF.setdefault(_measure.ratio, []).append(_measure.key)


@dataclasses.dataclass(frozen=True)
class Bar:
    """What a ratio to a rival, or a figure by itself, shall reach."""

    text: str
    ratio: str  # among the ratios of the JSON file; of several measures with one name the worst counts
    aim: float
    rival: str = "envoy-hbone"  # nobody: the figure itself
    mine: str = "warren"

    @property
    def more_is_better(self):
        return MEASURES[MEASURES_OF[self.ratio][0]].more_is_better

    def reached(self, value):
        return value >= self.aim if self.more_is_better else value <= self.aim

    @property
    def floors(self):
        """Those that tell where this bar's floor is: first the one with the least beside what Warren has to do here."""
        if self.mine == "warren-same-node":
            return ("floor-same-node",)
        if not self.rival:
            # A forwarder that moves more bulk makes others wait longer; what nobody can do better is the machine without any.
            return ("direct",)
        # The bytes of bulk have to be encrypted; among small messages that shows in no figure.
        return ("floor-sealed", "floor") if MEASURES_OF[self.ratio][0].startswith("bulk") else ("floor", "floor-untracked")


BARS = (
    Bar("bulk, Gbit/s", "bulk_gbps", 1.6), Bar("bulk, CPU", "cpu_s_per_gib", 0.5),
    Bar("requests/s", "requests_per_s", 1.5), Bar("requests, CPU", "cpu_us_per_request", 0.6),
    Bar("p50 at 4,000/s", "p50_us", 0.6), Bar("p99 at 4,000/s", "p99_us", 0.8),
    Bar("new connections/s", "connections_per_s", 2.2), Bar("first byte", "first_byte_us", 0.45),
    Bar("CPU of a new tunnel", "tunnel_cpu_us", 0.8),
    Bar("p99 beside bulk to p99 alone", "fair_p99_quotient", 2, rival=""),
    Bar("requests/s within a node", "requests_per_s", 0.6, rival="direct", mine="warren-same-node"),
)


def standing(bar, warren, floors):
    """In a word: a bar that not even the floors reached is beyond what there is to win."""
    if bar.reached(warren):
        return "reached"
    reach = [name for name, value in floors.items() if bar.reached(value)]
    if not floors or reach:
        return "missed; no floor was measured" if not floors else "open" if bar.floors[0] in reach else f"open: {reach[0]} reaches it"
    return "beyond the floor"


def against(samples, columns, bar, name):
    """A contender's figure for a bar, as its ratio to the bar's rival; None where it was not measured."""
    if name not in columns:
        return None
    if bar.rival:
        return ratios(samples, name, columns.get(bar.rival, [])).get(bar.ratio)
    return samples.median(name, MEASURES_OF[bar.ratio][0])


def table(samples, columns):
    """A row for each bar that was measured: {"bar", "aim", "to", "warren", "floors": {name: figure}, "warren/floor", "standing"}."""
    rows = []
    for bar in BARS:
        warren = against(samples, columns, bar, bar.mine)
        if warren is None:
            continue
        floors = {name: value for name in bar.floors if (value := against(samples, columns, bar, name)) is not None}
        first = next(iter(floors), None)
        rows.append({
            "bar": bar.text, "aim": bar.aim, "more_is_better": bar.more_is_better, "to": bar.rival, "warren": warren, "floors": floors,
            "warren/floor": ratios(samples, bar.mine, [first]).get(bar.ratio) if first else None,
            "standing": standing(bar, warren, floors)})
    return rows


def markdown(rows):
    """Nothing where no floor was measured."""
    if not any(name.startswith("floor") for row in rows for name in row["floors"]):
        return []
    lines = ["", "| Bar | to | aim | Warren | floor | Warren to the floor |  |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        floors = ", ".join(f"{form(value)} [{name}]" for name, value in row["floors"].items()) or "–"
        quotient = form(row["warren/floor"]) if row["warren/floor"] else "–"
        sign = "≥" if row["more_is_better"] else "≤"
        lines.append(f"| {row['bar']} | {row['to'] or 'itself'} | {sign} {form(row['aim'])} | {form(row['warren'])} | {floors} | {quotient} | "
                     f"{row['standing']} |")
    return lines
