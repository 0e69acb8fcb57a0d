"""What processes use: CPU time to the nanosecond, resident memory, and whether others used the machine meanwhile."""

import os
import pathlib
import re
import resource
import time

TICK = os.sysconf("SC_CLK_TCK")
KIBIBYTES = 1024


def cpu_seconds(pids):
    """CPU time of whole processes, threads that have ended included, from their own clocks (clock_getcpuclockid(3)): sums of run
    times, where /proc/PID/stat is sampled at ticks. What the kernel does for the network in a process's context (softirqs at the
    end of its system calls) is in it, for every process alike."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def resident_kib(pids):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) for pid in pids)


def settled(read, seconds, still):
    """A figure once it has not moved for a while."""
    last, since, deadline = read(), time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < deadline and time.monotonic() - since < still:
        time.sleep(0.1)
        now = read()
        if now != last:
            last, since = now, time.monotonic()
    return last


def machine_seconds():
    """CPU time that was used on the whole machine, and that the machine was denied by its host (steal)."""
    fields = [int(word) / TICK for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return user + nice + system + irq + softirq, steal


def family():
    """Our living descendants, and the kernel's threads for softirqs, which work for them."""
    parents = {}
    softirqs = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = entry.read_text().rpartition(")")
        except OSError:
            continue
        pid = int(entry.parent.name)
        parents[pid] = int(tail.split()[1])
        if head.partition("(")[2].startswith("ksoftirqd/"):
            softirqs.append(pid)
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sorted(ours - {os.getpid()}) + softirqs


class Watch:
    """Tells how much of the machine others used between `begin` and `end`."""

    def __init__(self, pids):
        self.pids = pids  # of `family`, once everything has started
        self.cores = os.cpu_count()

    def _read(self):
        own = resource.getrusage(resource.RUSAGE_SELF)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = cpu_seconds(self.pids) + own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
        return (time.monotonic(), ours, *machine_seconds())

    def begin(self):
        self.start = self._read()

    def end(self):
        elapsed, ours, busy, steal = (now - then for now, then in zip(self._read(), self.start))
        capacity = elapsed * self.cores
        return {"foreign": max(0.0, busy - ours) / capacity, "steal": steal / capacity}


def is_disturbed(shares, limit=0.05):
    """Whether others took more than a twentieth of the machine."""
    return shares["foreign"] + shares["steal"] > limit
