"""The rounds: every contender does every work, a moment apart, the order of contenders another in each round."""

import time

from lab.mesh import Failure

from .figures import Samples
from .load import RUN
from .usage import cpu_seconds, is_disturbed

TRIES = 3  # of a sample that others disturb; the last one counts, marked


def order(contenders, round_number):
    """Rotated, so that each goes first as often as any."""
    turn = round_number % len(contenders)
    return contenders[turn:] + contenders[:turn]


def sample(contender, work, seconds):
    """One contender's figures of one work, with the CPU that its proxies used for it."""
    before, began = {side: cpu_seconds(pids) for side, pids in contender.pids.items()}, time.monotonic()
    figures, done = RUN[work.name](contender, seconds)
    used = {side: cpu_seconds(pids) - before[side] for side, pids in contender.pids.items()}
    idle = [side for side, value in used.items() if value < 0.001 * (time.monotonic() - began)]
    if idle:
        raise Failure(f"{contender.name}: the {idle[0]}'s proxy did nothing, so the connections did not pass it")
    keys = {measure.key for measure in work.measures}
    if used:
        costs = {f"{work.name}-cpu": sum(used.values()) / done,
                 **{f"{work.name}-cpu-{side}": value / done for side, value in used.items()}}
        figures.update({key: value for key, value in costs.items() if key in keys})
    return figures


def said(shares):
    """A remark on a disturbed sample."""
    if not is_disturbed(shares):
        return ""
    return f" (disturbed: others {shares['foreign']:.0%}, steal {shares['steal']:.0%})"


def measure(contenders, works, rounds, seconds, bound, watch, note):
    """All samples, and how many were taken again: `bound` at most. A contender that a work means nothing to leaves it out."""
    samples, redone = Samples(), 0
    for number in range(rounds):
        for work in works:
            line = []
            for contender in order([one for one in contenders if one.does(work)], number):
                for attempt in range(TRIES):
                    watch.begin()
                    figures = sample(contender, work, seconds)
                    shares = watch.end()
                    disturbed = is_disturbed(shares)
                    if not disturbed or redone >= bound or attempt == TRIES - 1:
                        break
                    redone += 1
                    time.sleep(0.5)
                samples.add(contender.name, work.name, number, figures, {**shares, "disturbed": disturbed, "tries": attempt + 1})
                line.append(f"{contender.name} {next(iter(figures.values())):.4g}" + said(shares))
            if line:
                note(f"round {number + 1} of {rounds}, {work.name}: " + ", ".join(line))
    return samples, redone
