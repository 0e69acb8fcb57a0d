"""The work: programs that put load on a server from inside a client's pod, and the figures they come to."""

import concurrent.futures
import json
import pathlib
import re
import subprocess
import time

from lab.mesh import ROOT, Failure
from lab.topology import NETNS, die_with_parent, stop

from .figures import percentile
from .measures import FAIR_RATE, RATE

HTTP, BULK = 8080, 5201
GENERATOR = ROOT / ".build/release/load-generator"
GIBIBYTE = 1 << 30
CONNECTIONS = 64  # kept, with requests
AT_ONCE = 32  # new connections
FAIR_CONNECTIONS = 16  # kept, with the requests whose neighbour moves bulk
LEAD = 0.5  # seconds of bulk before those, and behind them


def inside(pod, command, seconds):
    """What a program inside a pod prints."""
    answer = subprocess.run(["nsenter", f"--net={NETNS / pod.namespace}", *map(str, command)], capture_output=True,
                            text=True, check=False, timeout=seconds, preexec_fn=die_with_parent)
    if answer.returncode != 0:
        raise Failure(f"{pathlib.Path(command[0]).name} in {pod.name}: {(answer.stdout + answer.stderr).strip()[-500:]}")
    return answer.stdout


def generate(pod, mode, address, port, *arguments, seconds):
    """The lines that load-generator prints: the first is JSON."""
    lines = inside(pod, [GENERATOR, mode, address, port, *arguments], seconds + 60).splitlines()
    return json.loads(lines[0]), lines[1:]


def exchanges(pod, mode, address, *arguments, seconds):
    """A summary of requests, and every latency in microseconds, in order. One that failed is a failure of all."""
    summary, (latencies,) = generate(pod, mode, address, HTTP, *arguments, seconds=seconds)
    failed, count = summary["failed"], summary["completed"]
    if failed or not count:
        raise Failure(f"{mode} from {pod.name}: {failed} of {failed + count} failed")
    return summary, sorted(int(word) / 1000 for word in latencies.split())


# Each of these makes a contender do one work for so many seconds. It returns its figures, and how much was done, for the CPU of each.


def bulk(flows, direction):
    def run(contender, seconds):
        moved, _ = generate(contender.client, direction, contender.address, BULK, flows, seconds, seconds=seconds)
        return {f"bulk-{flows}-{direction}": gbps(moved)}, moved["bytes"] / GIBIBYTE
    return run


def gbps(moved):
    return moved["bytes"] * 8 / moved["seconds"] / 1e9


def requests(contender, seconds):
    text = inside(contender.client, ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s",
                                     f"http://{contender.address}:{HTTP}/"], seconds + 30)
    count, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not count or not rate or int(count.group(1)) == 0 or "Socket errors" in text or "Non-2xx" in text:
        raise Failure(f"wrk from {contender.client.name}: {text.strip()}")
    return {"requests": float(rate.group(1))}, int(count.group(1)) / 1e6


def at_rate(contender, connections, rate, seconds):
    return exchanges(contender.client, "rate", contender.address, connections, seconds, rate, seconds=seconds)


def latency(contender, seconds):
    summary, micros = at_rate(contender, CONNECTIONS, RATE, seconds)
    return {"p50": percentile(micros, 0.5), "p99": percentile(micros, 0.99),
            "p999": percentile(micros, 0.999)}, summary["completed"] / 1e6


def connections(contender, seconds):
    summary, _ = exchanges(contender.client, "open", contender.address, AT_ONCE, seconds, 10_000_000, seconds=seconds)
    return {"connections": summary["completed"] / summary["seconds"]}, summary["completed"] / 1e6


def first_byte(contender, seconds):
    # One at a time ends after so many, which a pair of proxies does within the shortest time anybody asks for.
    summary, micros = exchanges(contender.client, "open", contender.address, 1, seconds, 1000, seconds=seconds)
    return {"first-byte": percentile(micros, 0.5), "first-byte-p99": percentile(micros, 0.99)}, \
        summary["completed"] / 1e6


def tunnels(contender, seconds):
    """Every connection has a handshake, or this fails: the proxy connects as often as the load does, and from the same pod."""
    before = connects(contender.client)
    figures, done = connections(contender, seconds)
    count = round(done * 1e6)
    made = connects(contender.client) - before - count
    if made < count:
        raise Failure(f"{contender.name}: {count} connections shared {made} tunnels")
    return {"tunnels": figures["connections"]}, done


def connects(pod):
    """TCP connections that were opened from inside a pod so far."""
    names, values = (line.split() for line in inside(pod, ["cat", "/proc/thread-self/net/snmp"], 10).splitlines()
                     if line.startswith("Tcp:"))
    return int(values[names.index("ActiveOpens")])


def fairness(contender, seconds):
    """The same requests without and with bulk of the neighbour, which begins before them and ends after them."""
    (_, quiet) = at_rate(contender, FAIR_CONNECTIONS, FAIR_RATE, seconds)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        neighbour, sink = contender.neighbours
        more = seconds + 2 * LEAD
        load = threads.submit(generate, neighbour, "up", sink.addresses[0], BULK, 8, more, seconds=more)
        time.sleep(LEAD)
        summary, loaded = at_rate(contender, FAIR_CONNECTIONS, FAIR_RATE, seconds)
        moved, _ = load.result()
    p99 = [percentile(micros, 0.99) for micros in (quiet, loaded)]
    return {"fair-quiet": p99[0], "fair-loaded": p99[1], "fair-quotient": p99[1] / p99[0], "fair-bulk": gbps(moved)}, \
        summary["completed"] / 1e6


RUN = {"requests": requests, "latency": latency, "connections": connections, "first-byte": first_byte,
       "tunnels": tunnels, "fairness": fairness,
       **{f"bulk-{flows}-{direction}": bulk(flows, direction) for flows in (1, 8) for direction in ("up", "down")}}


def short_connections(client, address, count):
    """So many connections that each carry one request."""
    exchanges(client, "open", address, AT_ONCE, 120, count, seconds=120)


class Held:
    """Connections that have carried one request each and stay, until the end of the `with` statement."""

    def __init__(self, topology, client, address, count):
        self.count = count
        self.program = topology.start(
            client.namespace, GENERATOR, "hold", address, HTTP, count, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def __enter__(self):
        said = self.program.stdout.readline().strip()
        if said != "open":
            self.__exit__()
            raise Failure(f"{self.count:,} idle connections: {said or 'load-generator ended'}")
        return self

    def __exit__(self, *_):
        self.program.stdin.close()
        try:
            self.program.wait(30)
        except subprocess.TimeoutExpired:
            pass
        stop(self.program)
        self.program.stdout.close()
