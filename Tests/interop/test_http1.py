"""Our HTTP/1 beside readers that are not ours: h11 and nginx."""

import pathlib
import random
import shutil
import socket
import subprocess
import time

import h11
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = range(4)


def build(*options):
    command = ["swift", "build", *options, "--product", "http1-interop"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*command, "--show-bin-path"], cwd=ROOT, text=True).strip()
    return pathlib.Path(shown) / "http1-interop"


class Program:
    """`http1-interop`, which answers a line with a line."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *lines):
        """The answers to commands that go in one by one, so that neither side waits with a full pipe."""
        answers = []
        for line in lines:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answers.append(self.process.stdout.readline().strip())
        return answers

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program():
    running = Program(build())
    yield running
    running.close()


def to_hex(data):
    return data.hex() or "-"


def from_hex(text):
    return b"" if text == "-" else bytes.fromhex(text)


def parsed(answer):
    """[(method, target, content)] and how it ended."""
    words = answer.split()
    messages = []
    while words and words[0] == "request":
        messages.append((words[1].encode(), from_hex(words[2]), from_hex(words[3])))
        words = words[4:]
    return messages, " ".join(words)


def h11_requests(data):
    """What h11 as a server makes of the bytes, up to its first error. It takes no empty line before a request: one is taken for it."""
    messages = []
    while True:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data.removeprefix(b"\r\n"))
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    message = [event.method, event.target, b""]
                elif isinstance(event, h11.Data):
                    message[2] += bytes(event.data)
                else:
                    return messages
            messages.append(tuple(message))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
        except h11.ProtocolError:
            return messages
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return messages
        data = connection.trailing_data[0]


VALID = [
    b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-A:  v w \t\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h:81\r\n\r\n",
    b"GET http://h/d HTTP/1.1\r\nHost: h\r\nConnection: foo, keep-alive\r\n\r\n",
]
SPICES = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"_", b"\x80", b"+", b"x", b"\r\nTransfer-Encoding: chunked",
    b"\r\nContent-Length: 3", b"\r\nHost: x", b"HTTP/1.0", b"\r\n 5", b"ffffffffffffffff", b"\r\nConnection: close",
]


def mutated(rng):
    data = bytearray(b"".join(rng.sample(VALID, rng.randint(1, 4))))
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(data))
        choice = rng.randrange(3)
        if choice == 0:
            data[place] = rng.randrange(256)
        elif choice == 1:
            del data[place : place + rng.choice([1, 1, 1, 10])]
        else:
            data[place:place] = rng.choice(SPICES)
    return bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_is_read_that_h11_reads_otherwise(program, seed):
    rng = random.Random(seed)
    inputs = [mutated(rng) for _ in range(2_000)]
    read = 0
    for data, answer in zip(inputs, program.ask(*(f"read {to_hex(data)}" for data in inputs))):
        ours, _ = parsed(answer)
        theirs = h11_requests(data)
        assert ours == theirs[: len(ours)], data
        read += len(ours)
    assert read > 1_000


def test_what_is_valid_is_read_as_h11_does(program):
    data = b"".join(VALID)
    ours, end = parsed(program.ask(f"read {data.hex()}")[0])
    assert (ours, end) == (h11_requests(data), "ok")
    assert len(ours) == len(VALID)


def h11_responses(data):
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, content = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, content
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


RESPONSES = [
    b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.0 200 OK\r\nServer: s\r\n\r\nall of it",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_response_is_read_that_h11_reads_otherwise(program, seed):
    rng = random.Random(seed)
    inputs = list(RESPONSES)
    for _ in range(1_000):
        data = bytearray(rng.choice(RESPONSES))
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[place] = rng.randrange(256)
            else:
                del data[place]
        inputs.append(bytes(data))
    read = 0
    for data, answer in zip(inputs, program.ask(*(f"receive GET {to_hex(data)}" for data in inputs))):
        words = answer.split()
        if words[0] != "response":
            continue
        assert h11_responses(data) == (int(words[1]), from_hex(words[2])), data
        read += 1
    assert read > 100


def random_fields(rng):
    names = ["x-a", "accept", "cookie", "user-agent", "x_b"]
    values = [b"a", b"", b"a b\tc", b"\xe4\xff", b"\"q\", r;s=t", b"x" * 300]
    return [(name, rng.choice(values)) for name in rng.sample(names, rng.randint(0, 5))]


def field_lines(fields):
    return to_hex(b"".join(name.encode() + b":" + value + b"\n" for name, value in fields))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_we_send_h11_reads_as_it_was_meant(program, seed):
    rng = random.Random(seed)
    for _ in range(200):
        fields = random_fields(rng)
        content = rng.randbytes(rng.choice([0, 1, 15, 16, 17, 1_000]))
        length = [("content-length", str(len(content)).encode())] if content and rng.random() < 0.5 else []
        piece = rng.choice([1, 7, 16, 4_096]) if content else 0
        line = f"POST {b'/p?q'.hex()} {field_lines([('host', b'h:81'), *length, *fields])} {to_hex(content)} {piece}"
        wire = from_hex(program.ask("write " + line)[0])
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(wire)
        request = connection.next_event()
        assert (request.method, request.target) == (b"POST", b"/p?q")
        seen = [(name.decode(), value) for name, value in request.headers]
        assert seen[0] == ("host", b"h:81") and [field for field in seen if field in fields] == fields
        got = b""
        while isinstance(event := connection.next_event(), h11.Data):
            got += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage) and got == content and connection.trailing_data[0] == b""

        request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".hex()
        line = f"{request} 200 {field_lines([*length, *fields])} {to_hex(content)} {piece}"
        wire = from_hex(program.ask("respond " + line)[0])
        assert h11_responses(wire) == (200, content)


class Nginx:
    """nginx on a Unix socket, which keeps what is put under /files and says at /names what it read."""

    CONFIGURATION = """
        daemon off; master_process off; error_log stderr; pid {folder}/pid;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
            uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
            server {{
                listen unix:{folder}/socket;
                location /files {{ root {folder}; client_max_body_size 1m; dav_methods PUT; create_full_put_path on; }}
                location /names {{ return 200 "$request_method $host $http_x_a"; }}
            }}
        }}
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / "conf").write_text(self.CONFIGURATION.format(folder=folder))
        self.process = subprocess.Popen(["nginx", "-c", folder / "conf", "-p", folder, "-e", "stderr"], stderr=subprocess.PIPE)
        limit = time.monotonic() + 60
        while not (folder / "socket").exists():
            assert self.process.poll() is None and time.monotonic() < limit, self.process.stderr.read()
            time.sleep(0.02)

    def exchange(self, wire):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.folder / "socket"))
            client.sendall(wire)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while more := client.recv(65_536):
                answer += more
            return answer

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_takes_what_we_send_and_we_read_what_it_answers(program, tmp_path):
    nginx = Nginx(tmp_path)
    try:
        content = bytes(range(256)) * 40
        for number, piece in enumerate((1_000, 4_096, 65_536)):
            path = f"/files/{number}".encode().hex()
            wire = from_hex(program.ask(f"write PUT {path} {field_lines([('host', b'h')])} {content.hex()} {piece}")[0])
            assert b"transfer-encoding: chunked" in wire
            answer = program.ask(f"receive PUT {nginx.exchange(wire).hex()}")[0].split()
            assert answer[:2] == ["response", "201"] and answer[3:] == ["ok"]
            assert (tmp_path / "files" / str(number)).read_bytes() == content
            wire = from_hex(program.ask(f"write GET {path} {field_lines([('host', b'h')])} - 0")[0])
            answer = program.ask(f"receive GET {nginx.exchange(wire).hex()}")[0].split()
            assert answer == ["response", "200", content.hex(), "ok"]
            answer = program.ask(f"receive HEAD {nginx.exchange(wire.replace(b'GET', b'HEAD')).hex()}")[0].split()
            assert answer == ["response", "200", "-", "ok"]
        fields = field_lines([("x-a", b"a b"), ("host", b"name:81")])
        wire = from_hex(program.ask(f"write GET {b'/names'.hex()} {fields} - 0")[0])
        answer = program.ask(f"receive GET {nginx.exchange(wire).hex()}")[0].split()
        assert from_hex(answer[2]) == b"GET name a b"
    finally:
        nginx.close()


def test_content_allocates_nothing_and_an_exchange_little():
    lines = subprocess.check_output([build("-c", "release"), "cost"], text=True).splitlines()
    allocations = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert allocations["chunk of 1000 bytes, sent and received"] < 0.01
    # Both sides together, each of which makes the head that it read.
    assert allocations["exchange, both sides"] < 16
