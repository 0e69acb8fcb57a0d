"""The floor: a pair of forwarders that do nothing but what no pair of per-node proxies can leave out (floor.c).

      client's pod: nftables ─▶ floor accept ══ one TCP connection for each pod ══▶ :15008 floor deliver ─▶ application

One process a node, with its sockets inside the pods, as Warren's daemons have them; the application sees the client's address.
`floor-sealed` encrypts what goes between the nodes, as a mesh must. `floor-untracked` does without connection tracking in the pods, as no
mesh does yet. `floor-same-node` joins both ends in one process.
"""

import subprocess

from lab.mesh import ROOT, Failure
from lab.topology import NETNS, batch, sysctl

from .load import BULK, HTTP
from .measures import MEMORY, WORKS
from .stage import NODE_A, Contender, pair, redirect, write_rules

CAPTURED, TUNNEL = 15001, 15008
MARK, ANSWERS, TABLE = 0x539, 0x111, 100  # the first as in floor.c
SOURCE, PROGRAM = ROOT / "Tools/benchmarks/floor.c", ROOT / ".build/floor"
NAMES = ("floor", "floor-sealed", "floor-untracked", "floor-same-node")
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


def capture_untracked(pod, *ports):
    """Routes the connections of a pod to these ports into its own loopback, where the forwarder's listener takes them."""
    listed = ", ".join(map(str, ports))
    write_rules(pod, {"type filter hook prerouting priority -150": [
        f"iif lo tcp dport {{ {listed} }} tcp flags & (syn | ack) == syn tproxy to :{CAPTURED}"]})
    batch(pod.namespace, [f"route replace local default dev lo src {pod.addresses[0]} table {TABLE}",
                          *(f"rule add iif lo ipproto tcp dport {port} lookup {TABLE}" for port in ports)])


def lead_answers_back_untracked(pod):
    """What an application accepts has the mark of who connected, so that its answers have it too, and a refusal likewise."""
    for name in ("tcp_fwmark_accept", "fwmark_reflect"):
        sysctl(pod.namespace, f"net.ipv4.{name}", 1)
    batch(pod.namespace, [f"route replace local default dev lo table {TABLE}", f"rule add fwmark {MARK} lookup {TABLE}"])


def place(pod):
    return NETNS / pod.namespace


class FloorPair(Contender):
    def __init__(self, name, host, has_neighbours=False):
        seals, self.is_tracked = name == "floor-sealed", name != "floor-untracked"
        text = "two forwarders in C that only move bytes: one thread and one tunnel each; no policy, log, metric or TLS"
        super().__init__(
            name, text + (", but AES-128-GCM in records of 16 KiB" if seals else "" if self.is_tracked else ", nor connection tracking"),
            *pair(name.removeprefix("floor-"), host), neighbours=pair("floorne", host + 100) if has_neighbours else (),
            leaves_out=(MEMORY, *(NOT_SEALED if seals else ())))
        self.options = ["--seal"] if seals else []

    def start(self, programs, *_):
        senders, receivers = (self.client, *self.neighbours[:1]), self.servers
        ends = (("server", self.server, TUNNEL, ["deliver", *self.options, *map(place, receivers)]),
                ("client", self.client, CAPTURED, ["accept", *self.options, *([] if self.is_tracked else ["--transparent"])] + [
                    f"{place(sender)}={receiver.addresses[0]}:{TUNNEL}" for sender, receiver in zip(senders, receivers)]))
        for pod in receivers:
            lead_answers_back(pod) if self.is_tracked else lead_answers_back_untracked(pod)
        for side, pod, port, arguments in ends:
            child = programs.start(pod, f"{pod.name}-floor", PROGRAM, *arguments)
            self.pids[side] = [child.pid]
            programs.wait(pod, port, child)
        for pod in senders:
            redirect(pod, (HTTP, CAPTURED), (BULK, CAPTURED)) if self.is_tracked else capture_untracked(pod, HTTP, BULK)


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
