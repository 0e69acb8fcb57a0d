"""The part of Tools/run that shows a waypoint: what its routes promise, asked for, and seen at the servers.

How it knows. Every request's path ends in a nonce made at that moment. Who was asked is what the servers' own logs say, who answered
is what the client got; neither the waypoint nor the nodes are asked, but for the count of endpoints that are out, which stands beside
what the servers saw. The mesh is Deploy/examples/waypoint.
"""

import dataclasses
import json
import math
import secrets
import subprocess
import sys

from .mesh import ROOT, Failure, Mesh, run_directory
from .topology import Node, Pod, Topology, wait_until

MANIFESTS = ROOT / "Deploy/examples/waypoint"
RUN_NAME = "waypoint"
PROGRAM = ROOT / "Tools/lab/programs.py"

NODE_C, NODE_D = NODES = Node("node-c", 3, "warren-node-c"), Node("node-d", 4, "warren-node-d")
VISITOR = Pod("visitor", "store", NODE_C, 10, "warren-visitor")
V1 = Pod("reviews-v1", "store", NODE_D, 10, "warren-reviews-v1")
V2 = Pod("reviews-v2", "store", NODE_C, 11, "warren-reviews-v2")
GOOD = Pod("ratings-good", "store", NODE_D, 11, "warren-ratings-good")
BAD = Pod("ratings-bad", "store", NODE_D, 12, "warren-ratings-bad")
WAYPOINT = Pod("routes", "store", NODE_D, 20, "warren-routes")
PODS = (VISITOR, V1, V2, GOOD, BAD, WAYPOINT)
STATUSES = {V1: 200, V2: 200, GOOD: 200, BAD: 503}
SERVICES = {"reviews": "10.97.101.10", "ratings": "10.97.101.11", "prices": "10.97.101.12"}

# What Deploy/examples/waypoint/40-routes.yaml says.
CANARY_SHARE = 0.1
ERRORS_UNTIL_OUT = 5

# One run in a million of a canary that does as it should is called wrong.
DOUBT = 1e-6


# MARK: What was seen


@dataclasses.dataclass
class Seen:
    """One request: what the client got, and the servers whose logs have its nonce, each as often as it was asked."""

    nonce: str
    status: int
    answer: str
    servers: list

    @property
    def answered_by(self):
        """The server that the answer is of; None for another's, or where it answers another request."""
        name, _, path = self.answer.partition(" ")
        return name if path.endswith("/" + self.nonce) else None


@dataclasses.dataclass
class Row:
    """A line of the table."""

    asked: str
    promised: str
    observed: str
    problems: list


def servers_of(nonces, logs):
    """For each nonce the names of the servers that read it, of their logs by name."""
    found = {nonce: [] for nonce in nonces}
    for name, text in logs.items():
        for line in text.splitlines():
            try:
                nonce = json.loads(line)["said"].rpartition("/")[2]
            except (ValueError, KeyError, TypeError):
                continue
            if nonce in found:
                found[nonce].append(name)
    return found


# MARK: What it has to be


def bounds(count, share, doubt=DOUBT):
    """The least and the most of `count` independent choices, each with probability `share`, that are to be believed: outside of them
    on either side lies at most half of `doubt`."""
    weights = [math.comb(count, number) * share**number * (1 - share) ** (count - number) for number in range(count + 1)]

    def outermost(numbers):
        total = 0.0
        for number in numbers:
            total += weights[number]
            if total > doubt / 2:
                return number
        raise ValueError("the doubt is more than certainty")

    return outermost(range(count + 1)), outermost(range(count, -1, -1))


def unanswered(seen):
    """Problems of requests that had to be answered with 200 by a server that saw them."""
    wrong = [one for one in seen if one.status != 200 or one.answered_by not in one.servers]
    return [f"{len(wrong)} requests without an answer of 200 from who was asked; the first: {wrong[0]}"] if wrong else []


def judge_canary(seen):
    least, most = bounds(len(seen), CANARY_SHARE)
    share = sum(one.servers == [V2.name] for one in seen)
    problems = unanswered(seen)
    if any(one.servers not in ([V1.name], [V2.name]) for one in seen):
        problems.append("a request reached not exactly one of v1 and v2")
    if not least <= share <= most:
        problems.append(f"{share} of {len(seen)} at v2 and not {least} to {most}")
    return Row(f"{len(seen)} requests to reviews", f"weights 90 and 10: {least} to {most} at v2",
               f"{len(seen) - share} at v1, {share} at v2", problems)


def judge_header(seen):
    at = sum(one.servers == [V2.name] for one in seen)
    problems = unanswered(seen)
    if at != len(seen):
        problems.append(f"{len(seen) - at} requests with the header were not at v2, and there alone")
    return Row(f"{len(seen)} with x-group: testers", "all at v2", f"{at} at v2", problems)


def judge_mirror(seen):
    answers = sum(one.answered_by == V1.name for one in seen)
    both = sum(sorted(one.servers) == [V1.name, V2.name] for one in seen)
    problems = unanswered(seen)
    if answers != len(seen):
        problems.append(f"{len(seen) - answers} answers were not v1's")
    if both != len(seen):
        problems.append(f"{len(seen) - both} requests were not read once by v1 and once by v2")
    return Row(f"{len(seen)} to /mirrored/", "v1 answers, v2 is asked as well",
               f"{answers} answers of v1, {both} nonces at both", problems)


def judge_retry(seen):
    failed = sum(BAD.name in one.servers for one in seen)
    errors = sum(one.status != 200 for one in seen)
    problems = unanswered(seen)
    if not failed:
        problems.append("the endpoint that fails was never asked: it proves nothing")
    again = [one for one in seen if one.servers.count(GOOD.name) != 1 or one.servers.count(BAD.name) > 1]
    if again:
        problems.append(f"{len(again)} requests were not read once by the good endpoint and at most once by the other")
    return Row(f"{len(seen)} to ratings, one of two pods fails", "503 is tried again elsewhere",
               f"{failed} failed at first, {errors} errors seen", problems)


def judge_ejection(seen, out):
    """`out`: how many endpoints the waypoint says it has put out."""
    at_bad = [number for number, one in enumerate(seen) if one.servers == [BAD.name]]
    errors = sum(one.status == 503 for one in seen)
    after = len(seen) - 1 - at_bad[-1] if at_bad else len(seen)
    problems = []
    if any(one.servers not in ([GOOD.name], [BAD.name]) or one.answered_by not in one.servers for one in seen):
        problems.append("a request was not read, and answered, by exactly one endpoint")
    if any(one.status != STATUSES[BAD if one.servers == [BAD.name] else GOOD] for one in seen):
        problems.append("a status was not that of the server's answer")
    if len(at_bad) != ERRORS_UNTIL_OUT:
        problems.append(f"the endpoint that fails was asked {len(at_bad)} times and not {ERRORS_UNTIL_OUT}")
    if out != 1:
        problems.append(f"the waypoint's metrics say that {out} endpoints are out and not 1")
    return Row(f"{len(seen)} to prices, same pods, one connection", f"out after {ERRORS_UNTIL_OUT} errors",
               f"{errors} errors, then {after} without; {out:g} out", problems)


# MARK: Asking


def ask(mesh, service, count, path="/", headers=None, keep=False):
    """Makes the requests one after the other: pairs of a nonce and what the client got."""
    nonces = [secrets.token_hex(16) for _ in range(count)]
    lines = [json.dumps({"path": path + nonce, "host": service, "headers": headers or {}, "keep": keep}) for nonce in nonces]
    client = mesh.topology.start(VISITOR.namespace, sys.executable, "-B", PROGRAM, "ask", SERVICES[service], 80, text=True,
                                 start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, error = client.communicate("".join(line + "\n" for line in lines), timeout=60)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        raise Failure(f"{count} requests to {service} were not answered within a minute", mesh.log) from None
    answers = [json.loads(line) for line in output.splitlines()]
    if len(answers) != count:
        raise Failure(f"the client ended after {len(answers)} of {count} requests: {error}")
    return list(zip(nonces, answers))


def seen_of(mesh, answers):
    logs = {pod.name: (mesh.logs / f"{pod.name}.log").read_text() for pod in STATUSES}
    servers = servers_of([nonce for nonce, _ in answers], logs)
    return [Seen(nonce, answer["status"], answer["answer"], servers[nonce]) for nonce, answer in answers]


def endpoints_out(mesh):
    """How many endpoints the waypoint's metrics say are out, each counted by every worker that put it out."""
    answer = subprocess.run(
        ["curl", "--silent", "--fail", "--max-time", "10", "--unix-socket", mesh.directory / f"store_{WAYPOINT.name}.sock",
         "http://localhost/metrics"], capture_output=True, text=True, check=False)
    values = [line.split()[-1] for line in answer.stdout.splitlines() if line.startswith("warren_http_ejections_active")]
    if not values:
        raise Failure(f"the waypoint's metrics do not say what is out: {answer.stderr}", mesh.log)
    return sum(map(float, values))


def rows_of(mesh, progress):
    progress("200 requests to a service with a canary")
    canary = ask(mesh, "reviews", 200)
    progress("requests with a header, mirrored requests")
    header = ask(mesh, "reviews", 20, headers={"x-group": "testers"})
    mirror = ask(mesh, "reviews", 20, path="/mirrored/")
    # Nobody waits for what becomes of a mirrored request: it may arrive after the answer.
    wait_until(lambda: all(len(one.servers) >= 2 for one in seen_of(mesh, mirror)), 5)
    progress("requests of which one of two endpoints answers 503")
    retry = ask(mesh, "ratings", 40)
    ejection = ask(mesh, "prices", 80, keep=True)
    return [judge_canary(seen_of(mesh, canary)), judge_header(seen_of(mesh, header)), judge_mirror(seen_of(mesh, mirror)),
            judge_retry(seen_of(mesh, retry)), judge_ejection(seen_of(mesh, ejection), endpoints_out(mesh))]


def remove_leftovers():
    """What a run that was killed has left, unless another one goes on."""
    with run_directory(RUN_NAME):
        Topology(NODES, PODS).remove()


def observe(progress, failed):
    """Starts the mesh, asks, and takes everything away; the rows of the table. `failed` gets the logs' directory where a row is wrong."""
    with run_directory(RUN_NAME) as directory:
        progress("making two nodes, five pods and a waypoint")
        with Topology(NODES, PODS) as topology, Mesh(topology, directory, MANIFESTS) as mesh:
            for pod, status in STATUSES.items():
                mesh.start_server(pod, (8080,), sys.executable, "-B", PROGRAM, "version", pod.name, status, 8080)
            mesh.up()
            # The way is there when the mesh is up; a first request makes the tunnels on it.
            if not wait_until(lambda: ask(mesh, "reviews", 1)[0][1]["status"] == 200, 20):
                raise Failure("no request passes the waypoint", mesh.log)
            rows = rows_of(mesh, progress)
            progress("")
            if any(row.problems for row in rows):
                failed(mesh.logs)
            return rows
