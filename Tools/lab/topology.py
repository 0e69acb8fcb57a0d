"""Nodes and pods out of network namespaces.

      pod eth0 ── veth ── node-a  ══ wire ══  node-b ── veth ── pod eth0
                         10.97.0.1           10.97.0.2
                         fd97::1             fd97::2

Each pod has a /32 and a /128 of its node's range and reaches everything through its node. Nothing here knows of Warren; it
is a plain routed network on which a mesh may or may not run.
"""

import dataclasses
import os
import pathlib
import signal
import subprocess
import time

NETNS = pathlib.Path("/run/netns")
WIRE = "wire"  # the interface between the nodes, on both of them


@dataclasses.dataclass(frozen=True)
class Node:
    name: str
    number: int  # 1 or 2: its address on the link, and the range of its pods
    namespace: str

    @property
    def addresses(self):
        return [f"10.97.0.{self.number}", f"fd97::{self.number}"]

    @property
    def gateways(self):
        """What the node's end of every pod's veth is called."""
        return [f"10.97.{self.number}.1", f"fd97:0:{self.number}::1"]


@dataclasses.dataclass(frozen=True)
class Pod:
    name: str
    group: str  # the Kubernetes namespace
    node: Node
    host: int  # the last part of its addresses
    namespace: str

    @property
    def addresses(self):
        return [f"10.97.{self.node.number}.{self.host}", f"fd97:0:{self.node.number}::{self.host}"]


class Topology:
    """Builds and removes the namespaces, and starts programs in them."""

    def __init__(self, nodes, pods):
        self.nodes, self.pods = nodes, pods
        self.namespaces = [place.namespace for place in [*nodes, *pods]]

    def __enter__(self):
        self.remove()  # what a run that was killed has left
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def build(self):
        for namespace in self.namespaces:
            run("ip", "netns", "add", namespace)
            # Addresses are usable at once, without the second that duplicate detection takes.
            sysctl(namespace, "net.ipv6.conf.default.accept_dad", 0)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        first, second = self.nodes
        run("ip", "-n", first.namespace, "link", "add", WIRE, "type", "veth", "peer", "name", WIRE,
            "netns", second.namespace)
        for node, other in ((first, second), (second, first)):
            sysctl(node.namespace, "net.ipv4.ip_forward", 1)
            sysctl(node.namespace, "net.ipv6.conf.all.forwarding", 1)
            batch(node.namespace, [
                f"address add {node.addresses[0]}/24 dev {WIRE}",
                f"address add {node.addresses[1]}/64 dev {WIRE} nodad",
                f"link set {WIRE} up",
                f"route add 10.97.{other.number}.0/24 via {other.addresses[0]}",
                f"route add fd97:0:{other.number}::/64 via {other.addresses[1]}",
            ])
        for pod in self.pods:
            node, port = pod.node, f"to-{pod.name}"[:15]
            run("ip", "-n", pod.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port,
                "netns", node.namespace)
            batch(pod.namespace, [
                f"address add {pod.addresses[0]}/32 dev eth0",
                f"address add {pod.addresses[1]}/128 dev eth0 nodad",
                "link set eth0 up",
                f"route add {node.gateways[0]} dev eth0",
                f"route add default via {node.gateways[0]}",
                f"route add {node.gateways[1]} dev eth0",
                f"route add default via {node.gateways[1]}",
            ])
            batch(node.namespace, [
                f"address add {node.gateways[0]}/32 dev {port}",
                f"address add {node.gateways[1]}/128 dev {port} nodad",
                f"link set {port} up",
                f"route add {pod.addresses[0]} dev {port}",
                f"route add {pod.addresses[1]} dev {port}",
            ])

    def remove(self):
        """Ends what runs in the namespaces and deletes them; nothing when there is nothing."""
        for namespace in self.namespaces:
            if not (NETNS / namespace).exists():
                continue
            end_processes(processes_in(namespace))
            subprocess.run(["ip", "netns", "delete", namespace], stderr=subprocess.DEVNULL, check=False)

    def start(self, namespace, *command, **options):
        """Starts a program inside a namespace. It is killed if we are."""
        return start("nsenter", f"--net={NETNS / namespace}", *command, **options)


def start(*command, **options):
    """Starts a program that does not outlive us, however we end."""
    return subprocess.Popen([str(word) for word in command], preexec_fn=die_with_parent, **options)


def die_with_parent():
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def stop(process, seconds=20):
    """Asks a program to end, and makes it after a while. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def processes_in(namespace):
    answer = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(line) for line in answer.stdout.split()]


def processes_with(argument):
    """Processes that were started with this very word on their command line."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in words and int(entry.parent.name) != os.getpid():
            found.append(int(entry.parent.name))
    return found


def end_processes(pids, seconds=5):
    """SIGTERM, and SIGKILL for what is there after `seconds`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = []
        for pid in pids:
            try:
                os.kill(pid, number)
                alive.append(pid)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(is_running(pid) for pid in alive), seconds)
        pids = [pid for pid in alive if is_running(pid)]


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition, seconds):
    """Polls a condition; its value, or the last falsy one when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


def run(*command):
    subprocess.run(command, check=True)


def batch(namespace, lines):
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def sysctl(namespace, name, value):
    path = "/proc/sys/" + name.replace(".", "/")
    run("nsenter", f"--net={NETNS / namespace}", "sh", "-c", f"echo {value} >{path}")
