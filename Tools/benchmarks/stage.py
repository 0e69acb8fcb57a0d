"""Two nodes, a pair of pods for each contender, and the servers in them.

      pod C-client ── veth ── node-a ══ wire ══ node-b ── veth ── pod C-server: nginx, a sink
                                   └─ veth ── pod C-server, where both are on one node

Every contender's bytes take this way, whatever carries them; only one contender works at a time.
"""

import subprocess

from lab.mesh import Failure, listens
from lab.topology import Node, Pod, die_with_parent, stop, wait_until

from .load import BULK, GENERATOR, HTTP

NODE_A, NODE_B = NODES = Node("node-a", 1, "warren-bench-a"), Node("node-b", 2, "warren-bench-b")
BODY_BYTES = 1024


def pair(name, host, server_node=NODE_B):
    """A contender's client and server; `host` is the last part of their addresses."""
    return (Pod(f"{name}-c", "bench", NODE_A, host, f"warren-bench-{name}-c"),
            Pod(f"{name}-s", "bench", server_node, host + 1, f"warren-bench-{name}-s"))


NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    server {{ listen {http} backlog=4096;
        location / {{ default_type text/plain; return 200 "{body}"; }} }}
}}
"""


class Programs:
    """Starts programs in the pods, their files and logs in one directory, and ends them in turn."""

    def __init__(self, topology, directory):
        self.topology, self.directory, self.logs = topology, directory, directory / "logs"
        self.children = []

    def __enter__(self):
        self.logs.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            stop(child)

    def start(self, pod, name, *command):
        """The process; its command becomes what runs under its number."""
        with open(self.logs / f"{name}.log", "wb") as output:
            child = self.topology.start(pod.namespace, *command, stdin=subprocess.DEVNULL, stdout=output,
                                        stderr=output, start_new_session=True)
        child.log = self.logs / f"{name}.log"
        self.children.append(child)
        return child

    def wait(self, pod, port, child, seconds=30):
        wait_until(lambda: listens(pod.namespace, port) or child.poll() is not None, seconds)
        if child.poll() is not None or not listens(pod.namespace, port):
            raise Failure(f"nobody listens on {port} in {pod.name}", child.log)

    def serve(self, pod):
        """The two servers of a pod."""
        directory = self.directory / pod.name
        directory.mkdir()
        file = directory / "nginx.conf"
        file.write_text(NGINX.format(directory=directory, http=HTTP, body="x" * BODY_BYTES))
        for name, port, command in (("nginx", HTTP, ("nginx", "-c", file, "-p", directory)),
                                    ("sink", BULK, (GENERATOR, "sink", BULK))):
            self.wait(pod, port, self.start(pod, f"{pod.name}-{name}", *command))


def redirect(pod, *ports):
    """Sends connections from a pod to ports elsewhere to others of its own, as a mesh captures them: (from, to). Replaces what did."""
    rules = [f"ip daddr != 127.0.0.0/8 tcp dport {there} redirect to :{here}" for there, here in ports]
    write_rules(pod, {"type nat hook output priority -100": rules})


def write_rules(pod, chains):
    """Replaces the bench's rules in a pod: {hook: rules}."""
    parts = [f"    chain c{number} {{ {hook};\n        " + "\n        ".join(rules) + "\n    }\n"
             for number, (hook, rules) in enumerate(chains.items())]
    table = "table ip bench\ndelete table ip bench\ntable ip bench {\n" + "".join(parts) + "}\n"
    subprocess.run(["nsenter", f"--net=/run/netns/{pod.namespace}", "nft", "-f", "-"], input=table, text=True, check=True,
                   preexec_fn=die_with_parent)


class Contender:
    """Something that carries connections from a client's pod to a server's."""

    def __init__(self, name, text, client, server, handshakes=False, neighbours=(), leaves_out=()):
        self.name, self.text = name, text
        self.client, self.server = client, server
        self.handshakes = handshakes  # whether there is TLS between the two ends
        self.neighbours = neighbours  # for fairness: a pod that sends bulk past the same proxies, and the pod that it goes to
        self.leaves_out = leaves_out  # names of works that would tell nothing of it
        self.pids = {}  # of its proxies: by side, "client" and "server"; both in "client" when one serves both

    @property
    def address(self):
        return self.server.addresses[0]

    @property
    def pods(self):
        return list(dict.fromkeys((self.client, self.server, *self.neighbours)))

    @property
    def servers(self):
        return list(dict.fromkeys((self.server, *self.neighbours[1:])))

    def does(self, work):
        """Whether a work means anything to it."""
        needs = {"tunnels": self.handshakes, "fairness": bool(self.neighbours)}
        return work.name not in self.leaves_out and needs.get(work.name, True)


def direct(has_neighbours):
    return Contender("direct", "no proxy", *pair("direct", 20), neighbours=pair("dirnear", 120) if has_neighbours else ())
