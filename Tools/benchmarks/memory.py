"""What connections cost in memory: resident KiB of each side's proxy while connections idle, and after they have gone."""

from .load import Held, short_connections
from .usage import resident_kib, settled


def measure(topology, contender, counts, short, still, gone, note):
    """Rows of {"state", "connections", SIDE: KiB}, in the order in which they were taken.

    - still: how long a figure must not move, in seconds
    - gone: the same once connections have gone; who gives memory back does so now and then (Warren every ten seconds)
    """
    rows = []

    def take(state, connections=0, still=still):
        def read():
            return {side: resident_kib(pids) for side, pids in contender.pids.items()}

        rows.append({"state": state, "connections": connections, **settled(read, 3 * still + 8, still)})
        note(f"memory of {contender.name}, {state}: " + ", ".join(
            f"{rows[-1][side] / 1024:.1f} MiB" for side in contender.pids))

    take("at start")
    for count in counts:
        with Held(topology, contender.client, contender.address, count):
            take(f"{count:,} idle", count)
    take("after those", still=gone)
    short_connections(contender.client, contender.address, short)
    take(f"after {short:,} short", still=gone)
    return rows


def kib_each(rows):
    """KiB for each idle connection, a side, at the most that were held: {side: KiB}."""
    first, most = rows[0], max(rows, key=lambda row: row["connections"])
    return {side: (most[side] - first[side]) / most["connections"] for side in ("client", "server") if side in first}
