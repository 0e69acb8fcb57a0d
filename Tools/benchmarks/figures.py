"""Percentiles, medians and ratios: nothing here measures anything."""

import math
import statistics

from .measures import MEASURES


def percentile(ordered, share):
    """The smallest value that at least this share of all values does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def form(value):
    """Three digits, or whole thousands."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def spread(values):
    """Median (smallest..largest)."""
    if not values:
        return "–"
    if len(values) == 1:
        return form(values[0])
    return f"{form(statistics.median(values))} ({form(min(values))}..{form(max(values))})"


class Samples:
    """Every sample of a run: one per contender, work and round."""

    def __init__(self, samples=()):
        self.list = list(samples)

    def add(self, contender, work, round_number, figures, disturbance):
        self.list.append({"contender": contender, "work": work, "round": round_number, "figures": figures,
                          **disturbance})

    def values(self, contender, key):
        """The figures of a measure by round."""
        return {one["round"]: one["figures"][key] for one in self.list
                if one["contender"] == contender and key in one["figures"]}

    def median(self, contender, key):
        values = self.values(contender, key)
        return statistics.median(values.values()) if values else None

    def better(self, variants, key):
        """Of a rival's variants the one with the better median; None where none has the measure."""
        measured = [name for name in variants if self.values(name, key)]
        if not measured:
            return None
        choose = max if MEASURES[key].more_is_better else min
        return choose(measured, key=lambda name: self.median(name, key))

    def ratio(self, contender, rival, key):
        """The median over rounds of the quotient within each round: the two were measured a moment apart."""
        mine, its = self.values(contender, key), self.values(rival, key)
        quotients = [mine[one] / its[one] for one in sorted(mine.keys() & its.keys()) if its[one]]
        return statistics.median(quotients) if quotients else None


def ratios(samples, contender, variants):
    """By name in the JSON file. Of several measures with one name (bulk with 1 and 8 streams, both ways) the worst for the contender
    stands there, and each under its own key in "each"."""
    each, result = {}, {}
    for key, measure in MEASURES.items():
        rival = samples.better(variants, key)
        value = samples.ratio(contender, rival, key) if rival else None
        if value is None:
            continue
        each[key] = value
        if measure.ratio:
            worst = min if measure.more_is_better else max
            result[measure.ratio] = worst(result.get(measure.ratio, value), value)
    return {**result, "each": each} if each else {}
