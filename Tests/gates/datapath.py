"""What the data path costs, counted: both daemons of a lab run under valgrind, and one client does one thing at a time.

      client pod ──> node a (valgrind) ══ tunnel ══> node b (valgrind) ──> far pod
                └──> node a ──> near pod, on the same node

Counts are those of the whole process, less what the same process does in the same time when nothing is asked of it. With
one client that waits for each answer they come out the same to a few parts in a thousand, on any machine.
"""

import contextlib
import pathlib
import socket
import subprocess
import sys
import time

import callgrind
import massif
import peer
import warrenlab

HERE = pathlib.Path(__file__).resolve().parent
PORT = 7000
MEBIBYTE = 1 << 20
REQUEST, RESPONSE = 100, 300
TUNNELS = 6


class Gauge:
    """A daemon under one of valgrind's tools."""

    def __init__(self, node, directory, options):
        self.node, self.directory, self.count = node, directory, 0
        path = directory / f"{node.letter}.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(60)
        program, *arguments = node.daemon.command
        node.daemon.command = [
            "valgrind", "--vgdb=no", *(option.format(self.file) for option in options),
            str(callgrind.stripped(program, directory)), *arguments, "--workers", "1", *fixed_options(program)]
        node.daemon.environment = {
            "LD_PRELOAD": str(directory / "gauge.so"), "WARREN_GAUGE": str(path), "SWIFT_DETERMINISTIC_HASHING": "1"}

    file = property(lambda self: self.directory / f"{self.node.letter}.{self.count}")

    def meet(self):
        self.channel = self.listener.accept()[0]
        self.channel.settimeout(60)

    def ask(self, command):
        self.channel.send(command.encode())
        assert self.channel.recv(100) == b"done", f"{self.node.name} has ended"

    def counted(self):
        """What callgrind has counted since the last time."""
        self.ask("dump window")
        self.count += 1
        return callgrind.read(self.directory / f"{self.node.letter}.0.{self.count}")

    def held(self):
        """What massif says is held."""
        self.count += 1
        self.ask(f"monitor detailed_snapshot {self.file}")
        return massif.read(self.file)


def fixed_options(program):
    """Valgrind knows no AVX-512: what would be chosen there is what is chosen nowhere else."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    return ["--aes", "libcrypto"] if "--aes " in text else []


def measure():
    """{measure: {side: Profile of one}}."""
    costs = {}
    for kind in (Costs, Holdings):
        with warrenlab.Lab() as lab:
            try:
                kind(lab).measure(costs)
            except BaseException:
                print(lab.report())
                raise
    return costs


class Gauged:
    """A lab whose daemons run under valgrind."""

    def __init__(self, lab):
        self.lab = lab
        directory = self.lab.directory / "gauges"
        directory.mkdir()
        directory.chmod(0o777)
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o", directory / "gauge.so", HERE / "gauge.c"],
            check=True)
        lab = self.lab
        lab.namespace("shop")
        self.client = lab.pod("shop/client", node="a")
        self.far, self.near = lab.pod("shop/far", node="b"), lab.pod("shop/near", node="a")
        # A tunnel belongs to one identity: each of these makes one of its own.
        self.others = [lab.pod(f"shop/other-{number}", node="a") for number in range(self.other_count)]
        for pod in (self.far, self.near):
            pod.start("peer", sys.executable, HERE / "peer.py", PORT).wait_for("ready")
        self.gauges = {
            side: Gauge(lab.nodes[letter], directory, self.options) for side, letter in (("client", "a"), ("server", "b"))}
        lab.start_control()
        for gauge in self.gauges.values():
            gauge.node.daemon.start()
            gauge.meet()
        lab.settle(timeout=120)
        # What has changed last is saved within two seconds: until then it is held twice.
        saved = [lab.run_directory / "nodes" / gauge.node.name / "state" for gauge in self.gauges.values()]
        warrenlab.wait(
            lambda: all(time.time() - file.stat().st_mtime > 2.5 for file in saved), "the configuration is saved", timeout=60)

    def _rest(self):
        """Until both daemons have written their lines and nothing moves any more."""
        def sizes():
            return [gauge.node.daemon.out.stat().st_size for gauge in self.gauges.values()]

        last, since = sizes(), time.monotonic()
        while time.monotonic() - since < 0.15:
            time.sleep(0.01)
            if (now := sizes()) != last:
                last, since = now, time.monotonic()

    def _call(self, pod, source=None):
        return peer.Caller((source or self.client).connect(pod.ip, PORT, timeout=30))

    def _connections(self, pod, count):
        for _ in range(count):
            caller = self._call(pod)
            caller.exchange(REQUEST, RESPONSE)
            caller.end()
            # Both daemons are through with it before the next.
            time.sleep(0.005)


class Costs(Gauged):
    """What is done for each thing, in windows of callgrind's."""

    options = ("--tool=callgrind", "--collect-systime=yes", "--callgrind-out-file={}")
    other_count = TUNNELS

    @contextlib.contextmanager
    def _window(self):
        """Gives a dictionary that holds, after the context, what was counted meanwhile on each side, and the time."""
        counted = {}
        self._rest()
        for gauge in self.gauges.values():
            gauge.counted()
        started = time.monotonic()
        yield counted
        self._rest()
        counted.update({side: gauge.counted() for side, gauge in self.gauges.items()}, seconds=time.monotonic() - started)

    def _cost(self, name, count, work, sides=("client", "server"), times=2):
        """What one of `count` things that `work` does costs: the quieter of two windows."""
        windows = []
        for _ in range(times):
            with self._window() as window:
                work()
            windows.append(window)
        self.costs[name] = {}
        for side in sides:
            idle, idle_seconds = self.idle[side][side], self.idle[side]["seconds"]
            window = min(windows, key=lambda one: one[side].total("instructions"))

            def one(kind, function, counted):
                return (counted - idle.counts[kind][function] * window["seconds"] / idle_seconds) / count

            self.costs[name][side] = window[side].each(one)

    def measure(self, costs):
        self.costs = costs
        for pod in (self.far, self.near):
            self._connections(pod, 20)
        # Now and then a daemon does something of its own: once in a window is not the rule.
        idle = []
        for _ in range(4):
            with self._window() as window:
                time.sleep(1)
            idle.append(window)
        self.idle = {
            side: min(idle, key=lambda one: one[side].total("instructions") / one["seconds"]) for side in self.gauges}
        for prefix, pod, sides in (("", self.far, ("client", "server")), ("same-node ", self.near, ("client",))):
            self._cost(prefix + "connection", 50, lambda: self._connections(pod, 50), sides)
            caller = self._call(pod)
            for _ in range(10):
                caller.exchange(REQUEST, RESPONSE)
            self._cost(
                prefix + "request", 200, lambda: [caller.exchange(REQUEST, RESPONSE) for _ in range(200)], sides)
            for _ in range(2):
                caller.exchange(MEBIBYTE, MEBIBYTE)
            # Without a tunnel hardly anything is done for one.
            count = 8 if pod is self.far else 128
            self._cost(prefix + "MiB sent", count, lambda: caller.exchange(count * MEBIBYTE, 1), sides)
            self._cost(prefix + "MiB received", count, lambda: caller.exchange(1, count * MEBIBYTE), sides)
            caller.end()
        self._tunnels()

    def _tunnels(self):
        others = iter(self.others)

        def work():
            for _ in range(TUNNELS // 2):
                caller = self._call(self.far, next(others))
                caller.exchange(REQUEST, RESPONSE)
                caller.end()

        self._cost("first connection of a tunnel", TUNNELS // 2, work)


class Holdings(Gauged):
    """What is held for a connection that has carried a request and rests, by massif."""

    options = ("--tool=massif", "--threshold=0", "--massif-out-file={}")
    other_count = 0

    def measure(self, costs):
        """Between 128 and 256 of them every table that doubles has done so once."""
        held, connections = [], []
        for count in (128, 256):
            while len(connections) < count:
                connections.append(self._call(self.far))
                connections[-1].exchange(REQUEST, RESPONSE)
            self._rest()
            held.append({side: gauge.held() for side, gauge in self.gauges.items()})
        costs["idle connection"] = {
            side: held[1][side].each(lambda kind, function, count: self._each(function, count, held[0][side].counts[kind]))
            for side in self.gauges}
        for caller in connections:
            caller.end()

    @staticmethod
    def _each(function, count, before):
        grown = count - before[function]
        # The buffers of a loop come and go: one more or less is nobody's. One for each connection would be far more.
        return 0 if "BufferPool" in function and abs(grown) < 1 << 17 else grown / 128
