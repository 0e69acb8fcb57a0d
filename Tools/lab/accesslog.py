"""Reads access-log lines as `warren up` prints them: which node, and the fields."""

import re

FIELD = re.compile(r'([a-z_][\w.]*)=("(?:[^"\\]|\\.)*"|\S+)')
LABEL = re.compile(r"^(?:\x1b\[[\d;]*m)*([\w.-]+)\s+[|│](?:\x1b\[[\d;]*m)*\s?(.*)$")


def parse(line):
    """A line's fields with "node" and "message", or None for a line that is no access-log entry."""
    labelled = LABEL.match(line)
    if not labelled or "connection" not in line or "direction=" not in line:
        return None
    entry = {name: unquote(value) for name, value in FIELD.findall(labelled.group(2))}
    entry["node"] = labelled.group(1)
    entry["message"] = "connection failed" if "connection failed" in labelled.group(2).split("src.addr=")[0] \
        else "connection complete"
    return entry


def unquote(value):
    if value.startswith('"'):
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value


class AccessLog:
    """A growing file of such lines."""

    def __init__(self, path):
        self.path, self.offset, self.entries = path, 0, []

    def read(self):
        """Takes in what was written since the last call; everything so far."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data.rpartition(b"\n")[0]
        if whole:
            self.offset += len(whole) + 1
            lines = whole.decode(errors="replace").splitlines()
            self.entries += [entry for entry in map(parse, lines) if entry]
        return self.entries
