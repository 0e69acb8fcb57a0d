"""What is measured, and how a figure of it is read."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Measure:
    """One figure that a sample yields."""

    key: str
    label: str
    unit: str
    more_is_better: bool
    ratio: str  # its name among the ratios of the JSON file; measures of one name share a ratio


@dataclasses.dataclass(frozen=True)
class Work:
    """One thing that a contender is made to do, and the measures that come of it."""

    name: str  # what --only calls it
    text: str
    measures: tuple
    owns_tunnel: bool = False  # whether each connection needs a tunnel of its own, for which the proxies are set up anew


def _cpu(name, label, unit, ratio):
    return (
        Measure(f"{name}-cpu", f"{label}: CPU", unit, False, ratio),
        Measure(f"{name}-cpu-client", f"{label}: CPU, client's side", unit, False, ""),
        Measure(f"{name}-cpu-server", f"{label}: CPU, server's side", unit, False, ""))


def _bulk(flows, direction):
    name = f"bulk-{flows}-{direction}"
    label = f"bulk, {flows} stream{'s' if flows > 1 else ''} {direction}"
    return Work(name, f"{label}, as many bytes as go", (
        Measure(name, label, "Gbit/s", True, "bulk_gbps"), *_cpu(name, label, "s/GiB", "cpu_s_per_gib")))


WORKS = (
    _bulk(1, "up"), _bulk(1, "down"), _bulk(8, "up"), _bulk(8, "down"),
    Work("requests", "1 KiB answers over 64 kept connections, as many as go (wrk)", (
        Measure("requests", "requests, 64 connections", "1/s", True, "requests_per_s"),
        *_cpu("requests", "requests", "µs each", "cpu_us_per_request"))),
    Work("latency", "4,000 requests a second over 64 kept connections, each counted from when it was due", (
        Measure("p50", "latency at 4,000/s, p50", "µs", False, "p50_us"),
        Measure("p99", "latency at 4,000/s, p99", "µs", False, "p99_us"),
        Measure("p999", "latency at 4,000/s, p99.9", "µs", False, "p999_us"),
        Measure("latency-cpu", "latency at 4,000/s: CPU", "µs each", False, "cpu_us_per_request_at_4000"))),
    Work("connections", "a new connection for each request, 32 at a time", (
        Measure("connections", "new connections", "1/s", True, "connections_per_s"),
        *_cpu("connections", "new connections", "µs each", "cpu_us_per_connection"))),
    Work("first-byte", "a new connection for each request, one after the other", (
        Measure("first-byte", "first byte of a new connection, p50", "µs", False, "first_byte_us"),
        Measure("first-byte-p99", "first byte of a new connection, p99", "µs", False, "first_byte_p99_us"))),
    Work("fairness", "1,000 requests a second of one pod, alone and beside the 8 bulk streams of another on its node", (
        Measure("fair-quiet", "p99 at 1,000/s on a quiet node", "µs", False, "fair_p99_quiet_us"),
        Measure("fair-loaded", "p99 at 1,000/s beside 8 bulk streams", "µs", False, "fair_p99_loaded_us"),
        Measure("fair-quotient", "p99 beside bulk to p99 on a quiet node", "times", False, "fair_p99_quotient"),
        Measure("fair-bulk", "bulk, 8 streams up, beside 1,000 requests/s", "Gbit/s", True, "fair_bulk_gbps"))),
    Work("tunnels", "a new connection for each request and a new tunnel for each connection, 32 at a time", (
        Measure("tunnels", "new tunnels", "1/s", True, "tunnels_per_s"),
        *_cpu("tunnels", "new tunnels", "µs each", "tunnel_cpu_us")), owns_tunnel=True),
)
MEASURES = {measure.key: measure for work in WORKS for measure in work.measures}
MEMORY = "memory"  # what --only calls the idle and the short connections
RATE = 4000  # requests a second of the fixed rate
FAIR_RATE = 1000  # of the pod whose neighbour moves bulk
