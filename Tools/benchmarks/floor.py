"""The floor: a pair of forwarders that do nothing but what no pair of per-node proxies can leave out (floor.c).

      client's pod: nftables ─▶ floor accept ══ one TCP connection for each pod ══▶ :15008 floor deliver ─▶ application

One process a node, with its sockets inside the pods, as Warren's daemons have them; the application sees the client's address.
`floor-sealed` encrypts what goes between the nodes, as a mesh must. `floor-same-node` joins both ends in one process.
"""

import subprocess

from lab.mesh import ROOT, Failure
from lab.topology import NETNS, batch

from .load import BULK, HTTP
from .measures import MEMORY, WORKS
from .stage import NODE_A, Contender, pair, redirect, write_rules

CAPTURED, TUNNEL = 15001, 15008
MARK, ANSWERS, TABLE = 0x539, 0x111, 100  # the first as in floor.c
SOURCE, PROGRAM = ROOT / "Tools/benchmarks/floor.c", ROOT / ".build/floor"
NAMES = ("floor", "floor-sealed", "floor-same-node")
# Encryption tells where many bytes or many messages go together; elsewhere it would only repeat the floor without it.
NOT_SEALED = tuple(work.name for work in WORKS if not work.name.startswith(("bulk", "requests")))


def build():
    """Compiles the program, which takes no longer than to find out whether it has changed."""
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", PROGRAM, SOURCE, "-lIPSec_MB"]
    PROGRAM.parent.mkdir(exist_ok=True)
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Failure(f"{SOURCE.name} does not compile:\n{answer.stderr.strip()[-2000:]}")


def lead_answers_back(pod):
    """What the applications of a pod answer to clients' addresses goes to the forwarder's sockets in it."""
    write_rules(pod, {
        "type filter hook prerouting priority -150": [f"meta mark {MARK} ct direction original ct mark set {ANSWERS}"],
        "type route hook output priority -150": [f"ct mark {ANSWERS} ct direction reply meta mark set {ANSWERS}"]})
    batch(pod.namespace, [f"route replace local default dev lo table {TABLE}", f"rule add fwmark {ANSWERS} lookup {TABLE}"])


def place(pod):
    return NETNS / pod.namespace


class FloorPair(Contender):
    def __init__(self, name, host, seals=False, has_neighbours=False):
        sealed = "AES-128-GCM in records of 16 KiB" if seals else "no TLS"
        super().__init__(
            name, f"two forwarders in C that only move bytes: one thread and one tunnel each; no policy, log or metric, {sealed}",
            *pair(name.removeprefix("floor-"), host), neighbours=pair("floorne", host + 100) if has_neighbours else (),
            leaves_out=(MEMORY, *(NOT_SEALED if seals else ())))
        self.options = ["--seal"] if seals else []

    def start(self, programs, *_):
        senders, receivers = (self.client, *self.neighbours[:1]), self.servers
        ends = (("server", self.server, TUNNEL, ["deliver", *self.options, *map(place, receivers)]),
                ("client", self.client, CAPTURED, ["accept", *self.options] + [
                    f"{place(sender)}={receiver.addresses[0]}:{TUNNEL}" for sender, receiver in zip(senders, receivers)]))
        for pod in receivers:
            lead_answers_back(pod)
        for side, pod, port, arguments in ends:
            child = programs.start(pod, f"{pod.name}-floor", PROGRAM, *arguments)
            self.pids[side] = [child.pid]
            programs.wait(pod, port, child)
        for pod in senders:
            redirect(pod, (HTTP, CAPTURED), (BULK, CAPTURED))


class FloorWithin(Contender):
    def __init__(self, host):
        super().__init__("floor-same-node", "one forwarder in C that joins two sockets, spliced when it is bulk",
                         *pair("floorin", host, server_node=NODE_A), leaves_out=(MEMORY,))

    def start(self, programs, *_):
        lead_answers_back(self.server)
        child = programs.start(self.client, f"{self.client.name}-floor", PROGRAM, "join", place(self.client), place(self.server))
        self.pids["client"] = [child.pid]
        programs.wait(self.client, CAPTURED, child)
        redirect(self.client, (HTTP, CAPTURED), (BULK, CAPTURED))
