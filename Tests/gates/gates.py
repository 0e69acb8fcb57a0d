"""Budgets: what was counted, held against the numbers that are committed, and who grew when it is more."""

import json
import pathlib

FILE = pathlib.Path(__file__).with_name("budgets.json")
# The share by which a count may differ, and parts of one beside, where a count is of a few.
TOLERANCE = {
    "instructions": (0.05, 0), "allocations": (0.01, 0.5), "system_calls": (0.03, 0.5), "clock_reads": (0.03, 0.5),
    "bytes": (0.05, 0)}
# What depends a little on when things come.
# What is spliced costs a turn of the loop for as much as the kernel had ready, 20,000 instructions in all; a copy a million.
LOOSE = {("MiB", "instructions"): (0.05, 20_000)}
# What depends on how much the kernel has ready each time, or on which thread wakes when, and no budget can hold: for a MiB, all
# that is done for a read.
UNSTEADY = {("MiB", "system_calls"), ("MiB", "clock_reads"), ("MiB", "allocations"), ("tunnel", "system_calls"),
            ("tunnel", "clock_reads")}
# Functions that a budget names, so that one that has grown can be told: the first so many, and a share of the whole.
NAMED, SHARE = 40, 0.002


def is_steady(measure, kind):
    return not any(part in measure and kind == one for part, one in UNSTEADY)


def budget(measure, profile):
    """What is committed of a profile."""
    profile = profile.demangled()
    entry = {}
    for kind, counts in profile.counts.items():
        if is_steady(measure, kind):
            total = profile.total(kind)
            named = [(name, count) for name, count in counts.most_common(NAMED)
                     if count > max(SHARE * total, 0.2)]
            entry[kind] = {"total": rounded(total), "functions": {name: rounded(count) for name, count in named}}
    return entry


def budgets(measures):
    return {measure: {side: budget(measure, profile) for side, profile in sides.items()} for measure, sides in measures.items()}


def problems(measures, planned):
    return [problem for measure, sides in planned.items() for side, kinds in sides.items() for kind, plan in kinds.items()
            if (problem := verdict(f"{measure}, {side}", kind, measures[measure][side], plan))]


def rounded(count):
    return round(count) if count >= 1000 else round(count, 1)


def within(measure, kind, count, planned):
    share, beside = max([TOLERANCE[kind], *(loose for (part, one), loose in LOOSE.items() if part in measure and kind == one)])
    return abs(count - planned) <= share * planned + beside


def verdict(measure, kind, profile, plan):
    """Nothing when a count is within its budget, else what to say."""
    count, planned, functions = profile.total(kind), plan["total"], plan["functions"]
    if within(measure, kind, count, planned):
        return None
    words = [f"{measure}: {rounded(count)} {kind.replace('_', ' ')}, the budget is {rounded(planned)} ({change(count, planned)})"]
    counts = profile.demangled().counts[kind]
    changes = sorted(
        ((counts[name] - functions.get(name, 0), name) for name in counts.keys() | functions.keys()), reverse=count > planned)
    for difference, name in changes[:12]:
        if difference * (count - planned) > 0:
            words.append(f"  {difference:+9.{0 if abs(difference) >= 1000 else 1}f}  {name[:150]}, now {rounded(counts[name])}"
                         + ("" if name in functions else ", not named in the budget"))
    if count > planned:
        words.append("Find out why. If it has to be: Tools/gates --update, in a commit of its own that says why.")
    else:
        words.append("Well done. Keep it: Tools/gates --update, and commit the new numbers.")
    return "\n".join(words)


def change(count, planned):
    return f"{(count / planned - 1) * 100:+.1f} %" if planned else "of nothing"


def load():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def cases(budgets):
    """[(measure, part, kind)] of what has a budget; the part is a side, or a size of the mesh."""
    return [(measure, part, kind) for measure, parts in budgets.items() for part, kinds in parts.items() for kind in kinds]


def store(budgets):
    FILE.write_text(json.dumps(budgets, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def report(measured, budgets):
    """A Markdown table of what was measured, beside the budgets."""
    lines = ["| Measure | Of | Kind | Counted | Budget |", "|---|---|---|---:|---:|"]
    for measure, sides in measured.items():
        for side, profile in sides.items():
            for kind in profile.counts:
                planned = budgets.get(measure, {}).get(side, {}).get(kind)
                lines.append(f"| {measure} | {side} | {kind.replace('_', ' ')} | {rounded(profile.total(kind)):,} "
                             f"| {format(planned['total'], ',') if planned else '–'} |")
    return "\n".join(lines)
