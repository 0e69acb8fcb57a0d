"""A mesh started by `warren up` on a topology, with the programs beside it and their logs in one directory."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import secrets
import shutil
import subprocess

from .packets import Capture
from .topology import NETNS, WIRE, end_processes, processes_with, start, stop, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("WARREN_BIN", ROOT / ".build/release"))


class Failure(Exception):
    """Something did not come up; the text ends with the last lines of its log."""

    def __init__(self, text, log=None):
        if log and log.exists():
            lines = log.read_text(errors="replace").splitlines()[-25:]
            text += f"\nThe end of {log.name}:\n" + "\n".join("    " + line for line in lines)
        super().__init__(text)


@contextlib.contextmanager
def run_directory(name, *parts):
    """/run/warren-NAME: the place of sockets and logs, held by one run at a time, removed at the end.

    What a killed run left is ended and removed first: its daemons have this directory, or one of these parts of it, on their command
    lines.
    """
    directory = pathlib.Path(f"/run/warren-{name}")
    path = directory.with_suffix(".lock")
    with open(path, "w") as lock:
        # One that was killed is being cleaned up after for a moment.
        if not wait_until(lambda: locks(lock), 10):
            raise Failure(f"another run holds {path}: its namespaces have the same names")
        for used in (directory, *(directory / part for part in parts)):
            end_processes(processes_with(str(used)))
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            path.unlink(missing_ok=True)


def locks(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@dataclasses.dataclass
class Record:
    """A capture going on."""

    tcpdump: subprocess.Popen
    path: pathlib.Path
    log: pathlib.Path


class Mesh:
    def __init__(self, topology, directory, manifests):
        self.topology, self.directory, self.manifests = topology, directory, manifests
        self.logs = directory / "logs"
        self.log, self.access_log = self.logs / "up.log", self.logs / "access.log"
        self.children = []

    def __enter__(self):
        self.logs.mkdir()
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            stop(child)

    def up(self, *options, seconds=30, environment=()):
        """Starts `warren up` and waits until every node is ready and every enrolled pod captured.

        Its daemons have its environment: what it has no option for is set there.
        """
        up = start(PROGRAMS / "warren", "up", "-f", self.manifests, "--run-directory", self.directory, *options,
                   stdin=subprocess.DEVNULL, stdout=open(self.access_log, "wb"), stderr=open(self.log, "wb"),
                   start_new_session=True, cwd="/", env={**os.environ, **dict(environment)})
        self.children.append(up)
        wait_until(lambda: b"the mesh is up" in self.log.read_bytes() or up.poll() is not None, seconds)
        if up.poll() is not None or b"the mesh is up" not in self.log.read_bytes():
            raise Failure("warren up did not come up", self.log)
        return up

    def start_program(self, namespace, name, *command, **options):
        """Starts a program inside a namespace, its output in logs/NAME.log."""
        output = open(self.logs / f"{name}.log", "wb")
        child = self.topology.start(namespace, *command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                    start_new_session=True, **options)
        self.children.append(child)
        return child

    def start_server(self, pod, ports, *command, **options):
        """Starts a program and waits until it listens."""
        child = self.start_program(pod.namespace, pod.name, *command, **options)
        for port in ports:
            wait_until(lambda: listens(pod.namespace, port) or child.poll() is not None, 10)
            if child.poll() is not None or not listens(pod.namespace, port):
                raise Failure(f"{pod.name} does not listen on {port}", self.logs / f"{pod.name}.log")
        return child

    def record_wire(self):
        """tcpdump on the first node's end of the wire, running when this returns."""
        path, log = self.logs / "wire.pcap", self.logs / "tcpdump.log"
        tcpdump = self.start_program(
            self.topology.nodes[0].namespace, "tcpdump", "tcpdump", "-i", WIRE, "-s", "0", "-U", "-B", "16384",
            "-Z", "root", "-w", path)
        wait_until(lambda: b"listening on" in log.read_bytes() or tcpdump.poll() is not None, 10)
        if tcpdump.poll() is not None:
            raise Failure("tcpdump did not start", log)
        return Record(tcpdump, path, log)

    def end_record(self, record):
        """Ends the capture once it has written a last packet that we send for the purpose."""
        first, second = self.topology.nodes
        marker = secrets.token_hex(16)
        self.topology.start(first.namespace, "bash", "-c",
                            f"echo {marker} >/dev/udp/{second.addresses[0]}/9").wait()
        if not wait_until(lambda: marker.encode() in record.path.read_bytes(), 10):
            raise Failure("the capture of the wire lost packets", record.log)
        stop(record.tcpdump)
        return Capture(record.path)


def listens(namespace, port):
    answer = subprocess.run(
        ["nsenter", f"--net={NETNS / namespace}", "ss", "-Hltn", f"sport = :{port}"],
        capture_output=True, text=True, check=False)
    return bool(answer.stdout.strip())
