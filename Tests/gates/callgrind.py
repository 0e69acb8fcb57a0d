"""Reads what valgrind's callgrind wrote: what each function cost itself, and who called whom how often."""

import collections
import os
import pathlib
import re
import shutil
import subprocess

KINDS = ("instructions", "system_calls", "clock_reads", "allocations")

# Those that take memory, and those through which the others reach them: an allocation is laid to the first caller outside.
_TAKES = {"malloc", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"}
_PASSES = re.compile(
    r"(CRYPTO_([mz]alloc|realloc|memdup|strn?dup)$|nghttp2_mem_|swift_slowAlloc|_?swift_allocObject|_swift_alloc"
    r"|swift_bufferAllocate|strdup$)")


class Profile:
    """What was counted, by kind and function: events that it caused itself, and allocations that it asked for."""

    def __init__(self, counts):
        self.counts = {kind: collections.Counter(one) for kind, one in counts.items()}

    def total(self, kind):
        return sum(self.counts[kind].values())

    def each(self, change):
        """A profile in which each count is `change(kind, function, count)`."""
        return Profile({kind: {name: change(kind, name, count) for name, count in counts.items()}
                        for kind, counts in self.counts.items()})

    def demangled(self):
        """The same by names that a person reads; specialisations of a function are that function."""
        shown = _demangled({name for counts in self.counts.values() for name in counts})
        result = Profile(dict.fromkeys(self.counts, ()))
        for kind, counts in self.counts.items():
            for name, count in counts.items():
                result.counts[kind][shown[name]] += count
        return result


def stripped(program, directory):
    """A copy of a program that valgrind can run: version 3.19 ends at Swift's debug information."""
    beside = pathlib.Path(os.path.realpath(shutil.which("swift"))).with_name("llvm-objcopy")
    copy = pathlib.Path(directory) / pathlib.Path(program).name
    if not copy.exists():
        subprocess.run([beside if beside.exists() else "objcopy", "--strip-debug", program, copy], check=True)
    return copy


def trigger(path):
    """The name under which a program had a file written."""
    with open(path, errors="replace") as lines:
        return next(line for line in lines if line.startswith("desc: Trigger:")).split("Client Request: ")[1].strip()


def read(path):
    """The profile in a file, under the names that the linker knows. Functions of libraries have the library's name before them
    where their own is not known."""
    names, objects, events = {}, {}, []
    profile, calls = Profile(dict.fromkeys(KINDS, ())), collections.Counter()
    object_, called_object = "", None
    function = callee = None
    is_inclusive = False

    def named(table, text):
        number, _, given = text.strip().partition(" ")
        if not number.startswith("("):
            return number
        if given:
            table[number] = given
        return table[number]

    def qualified(text, inside):
        name = named(names, text).partition("'")[0]
        return f"{os.path.basename(inside)}:{name}" if name.startswith("0x") else name

    with open(path, errors="replace") as lines:
        for line in lines:
            key, separator, value = line.partition("=")
            if line[0] in "0123456789+-*":
                if not is_inclusive:
                    for event, count in zip(events, line.split()[1:]):
                        if event == "Ir":
                            profile.counts["instructions"][function] += int(count)
                        elif event == "sysCount" and int(count):
                            # Valgrind makes a call of what is a read of shared memory else.
                            kind = "clock_reads" if function.startswith("clock_gettime") else "system_calls"
                            profile.counts[kind][function] += int(count)
                is_inclusive = False
            elif not separator:
                if line.startswith("events:"):
                    events = line.split()[1:]
            elif key == "ob":
                object_ = named(objects, value)
            elif key == "fn":
                function = qualified(value, object_)
            elif key == "cob":
                called_object = named(objects, value)
            elif key == "cfn":
                callee = qualified(value, object_ if called_object is None else called_object)
            elif key == "calls":
                is_inclusive, called_object = True, None
                calls[function, callee] += int(value.split()[0])
    profile.counts["allocations"] = _allocations(calls)
    return profile


def _allocations(calls):
    """How many allocations each function has asked for, by itself or through a wrapper."""
    passes = {name for call in calls for name in call if name in _TAKES or _PASSES.match(name)}
    # The linker's stubs, which are nowhere: they pass on to one function each.
    passes |= {caller for caller, callee in calls if caller.startswith("???:") and callee in passes}
    asked = collections.Counter()
    for (caller, callee), count in calls.items():
        if callee in passes and caller not in passes:
            asked[caller] += count
    # A call of a wrapper need not end in an allocation, nor begin in the window: the difference is a line of its own.
    taken = sum(count for (_, callee), count in calls.items() if callee in _TAKES)
    if taken != asked.total():
        asked["(more or fewer than asked for)"] += taken - asked.total()
    return asked


def _demangled(names):
    names = sorted(names)
    shown = subprocess.run(
        ["swift", "demangle", "--compact", "--simplified"], input="\n".join(names), text=True, check=True,
        capture_output=True).stdout.split("\n")
    return dict(zip(names, (re.sub(r"^((partial apply|specialized|merged) )*", "", one.strip()) for one in shown)))
