"""The Markdown table and the JSON file of a run."""

from . import bars
from .figures import form, ratios, spread
from .measures import MEASURES
from .memory import kib_each

OURS, FLOORS = ("warren", "warren-same-node"), ("floor", "floor-sealed", "floor-untracked", "floor-same-node")
SHOWN = ("warren/direct", "warren/envoy-hbone", "warren/haproxy-mtls", "warren-same-node/direct")  # ratios in the table


class Result:
    """A run: what `Tools/bench --json` writes, and what the table and the plot are drawn from."""

    def __init__(self, machine, contenders, samples, rounds, seconds, redone, memory, empty):
        self.machine, self.contenders, self.samples = machine, contenders, samples  # contenders: name -> text
        self.rounds, self.seconds, self.redone = rounds, seconds, redone
        self.memory, self.empty = memory, empty  # memory: name -> rows; empty: node -> KiB, or None

    def columns(self):
        """What stands beside each other: name -> its variants, of which the better counts."""
        columns = {}
        for name in self.contenders:
            columns.setdefault(name.partition("/")[0], []).append(name)
        return columns

    def pairs(self):
        """What is set against what: "warren/envoy-hbone" -> (contender, variants of the rival)."""
        columns = self.columns()
        return {f"{mine}/{rival}": (mine, variants) for mine in (*OURS, *FLOORS) if mine in columns
                for rival, variants in columns.items() if rival not in OURS and (mine in OURS or rival not in FLOORS)}

    def json(self):
        return {
            "machine": self.machine, "rounds": self.rounds, "seconds": self.seconds, "contenders": self.contenders,
            "ratios": {name: ratios(self.samples, *pair) for name, pair in self.pairs().items()},
            "about_ratios": "The median over rounds of the quotient within a round; of a rival's variants the better one, measure by measure. "
                            "bulk_gbps and cpu_s_per_gib are the worst of 1 and 8 streams, both ways.",
            "bars": bars.table(self.samples, self.columns()),
            "kib_per_idle_connection": {name: kib_each(rows) for name, rows in self.memory.items()},
            "memory_kib": self.memory, "empty_snapshot_kib": self.empty,
            "redone": self.redone, "samples": self.samples.list,
        }


def markdown(result):
    facts, samples, columns, pairs = result.machine, result.samples, result.columns(), result.pairs()
    lines = [f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, {facts['congestion control']}; commit {facts['commit']}, "
             f"{facts['date'][:10]}; {result.rounds} round{'s' if result.rounds > 1 else ''} of {result.seconds} s a measure, interleaved. "
             "Medians (min..max); ratios are medians of the quotients within each round. CPU is of both sides' proxies together.", ""]
    lines += [f"- `{name}`: {text}." for name, text in result.contenders.items()]
    shown = [name for name in SHOWN if name in pairs]
    table = [measure for measure in MEASURES.values() if measure.ratio
             and any(samples.values(name, measure.key) for name in result.contenders)]
    if table:
        heads = ["Measure", "", *columns, *(name.replace("/", " / ") for name in shown)]
        lines += ["", "| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(columns) + len(shown))]
        for measure in table:
            cells = [cell(samples, variants, measure.key) for variants in columns.values()]
            for name in shown:
                mine, variants = pairs[name]
                rival = samples.better(variants, measure.key)
                value = samples.ratio(mine, rival, measure.key) if rival else None
                cells.append("–" if value is None else f"**{value:.2f}**" if name == "warren/envoy-hbone" else f"{value:.2f}")
            lines.append(f"| {measure.label} | {measure.unit} | " + " | ".join(cells) + " |")
        lines += bars.markdown(bars.table(samples, columns)) + ["", trouble(result)]
    return "\n".join(lines + memory_table(result))


def cell(samples, variants, key):
    """A contender's figures; of several variants the better one's, with its name."""
    best = samples.better(variants, key)
    if best is None:
        return "–"
    text = spread(list(samples.values(best, key).values()))
    return f"{text} [{best.partition('/')[2]}]" if len(variants) > 1 else text


def trouble(result):
    disturbed = sum(one["disturbed"] for one in result.samples.list)
    return (f"Samples while others used more than a twentieth of the machine: {result.redone} taken again, {disturbed} of "
            f"{len(result.samples.list)} left in.")


def memory_table(result):
    if not result.memory:
        return []
    states = [row["state"] for row in next(iter(result.memory.values()))]
    lines = ["", "| Resident memory, MiB: client's side, server's side | " + " | ".join(states) + " | KiB for each idle connection |",
             "|---|" + "---:|" * (len(states) + 1)]
    for name, rows in result.memory.items():
        sides = [side for side in ("client", "server") if side in rows[0]]
        cells = [", ".join(f"{row[side] / 1024:.1f}" for side in sides) for row in rows]
        each = ", ".join(form(value) for value in kib_each(rows).values())
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {each} |")
    if result.empty:
        lines += ["", "Resident at start with an empty snapshot: "
                  + ", ".join(f"{kib / 1024:.1f} MiB" for kib in result.empty.values()) + "."]
    return lines
