"""HBONE against a peer that we did not write: python's h2 over its ssl module, on both sides of our tunnel."""

import hashlib
import pathlib
import queue
import socket
import ssl
import struct
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
Code = h2.errors.ErrorCodes
PATIENCE = 20


@pytest.fixture(scope="module")
def program():
    subprocess.run(["swift", "build", "--product", "hbone-peer"], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run(
        ["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return pathlib.Path(shown.stdout.strip()) / "hbone-peer"


class Peer:
    """`hbone-peer`, with what it says about connections that ended."""

    def __init__(self, program, folder, to=None):
        self.folder = folder
        command = [program, folder] + (["--to", str(to)] if to else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = self._number("port")
        self.outbound = self._number("outbound") if to else None
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _number(self, name):
        word, number = self.process.stdout.readline().split()
        assert word == name
        return int(number)

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def says(self, start):
        """The next line that begins so, without the beginning."""
        while True:
            line = self.lines.get(timeout=PATIENCE)
            if line.startswith(start + " "):
                return line[len(start) + 1:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.process.poll() is None, "hbone-peer ended by itself"
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def tls(folder, server_side, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "root.pem")
    if name:
        context.load_cert_chain(folder / f"{name}-cert.pem", folder / f"{name}-key.pem")
    context.set_alpn_protocols(["h2"])
    return context


class H2:
    """One side of an h2 connection: blocking, everything that comes kept by stream."""

    def __init__(self, sock, client, settings=None):
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.client = client
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=client, validate_inbound_headers=False, validate_outbound_headers=False,
                header_encoding="utf-8",
            )
        )
        if settings:
            self.h2.update_settings(settings)
        self.h2.initiate_connection()
        self.events = []
        self.data = {}
        self.gives_windows_back = True
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def pump(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the peer ended the connection")
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                if self.gives_windows_back and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    def wait(self, kind, stream=None):
        """The first event of a kind (of a stream) that has not been waited for."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                    self.events.remove(event)
                    return event
            self.pump()
        raise TimeoutError(kind)

    def connect(self, authority, headers=(), method="CONNECT"):
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":authority", authority), *headers]
        if method != "CONNECT":
            fields[1:1] = [(":scheme", "https"), (":path", "/")]
        self.h2.send_headers(stream, fields)
        self.flush()
        return stream

    def answer(self, stream):
        event = self.wait(h2.events.ResponseReceived, stream)
        return dict(event.headers)

    def send(self, stream, data, end=False):
        view = memoryview(data)
        while len(view):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(view))
            if room == 0:
                self.pump()
                continue
            self.h2.send_data(stream, view[:room].tobytes())
            view = view[room:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def reset(self, stream, code):
        self.h2.reset_stream(stream, code)
        self.flush()

    def close(self):
        self.sock.close()


def dial(peer, name="client", settings=None):
    raw = socket.create_connection(("127.0.0.1", peer.port), PATIENCE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return H2(tls(peer.folder, False, name).wrap_socket(raw), True, settings)


class Application:
    """A TCP server whose connections the test plays itself."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.authority = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        return connection

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def read_all(connection):
    data = b""
    while part := connection.recv(1 << 16):
        data += part
    return data


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def served(program, tmp_path):
    with Peer(program, tmp_path) as peer, Application() as application:
        client = dial(peer)
        yield peer, application, client
        client.close()


def opened(client, application):
    stream = client.connect(application.authority)
    connection = application.accept()
    assert client.answer(stream)[":status"] == "200"
    return stream, connection


# Our server.


def test_a_connection_is_answered_when_the_application_is_connected(served):
    peer, application, client = served
    stream = client.connect(application.authority, [("baggage", "k8s.namespace.name=shop"), ("unknown", "x")])
    connection = application.accept()
    answer = client.answer(stream)
    assert answer == {":status": "200", "baggage": "service.name=server"}
    client.send(stream, b"ping")
    assert connection.recv(10) == b"ping"
    connection.sendall(b"pong")
    client.wait(h2.events.DataReceived, stream)
    assert client.data[stream] == b"pong"


@pytest.mark.parametrize(
    "authority, method, status, reason",
    [
        ("not-an-address", "CONNECT", "400", "invalid CONNECT address"),
        ("10.0.0.1", "CONNECT", "400", "invalid CONNECT address"),
        ("10.0.0.1:80", "GET", "400", "expected method CONNECT, got GET"),
        ("denied:1", "CONNECT", "401", "allow policies exist, but none allowed"),
        ("127.0.0.1:1", "CONNECT", "503", "Connection refused"),
    ],
)
def test_a_refusal_has_its_status_and_ends_the_stream(served, authority, method, status, reason):
    _, application, client = served
    stream = client.connect(authority, method=method)
    answer = client.answer(stream)
    assert answer[":status"] == status and reason in answer["x-warren-reason"]
    client.wait(h2.events.StreamEnded, stream)
    # The tunnel goes on.
    opened(client, application)


def test_half_closes_hundreds_of_times_in_every_order(served):
    peer, application, client = served
    for number in range(300):
        stream, connection = opened(client, application)
        request, answer = b"q" * (number * 37 % 5000), b"a" * (number * 101 % 70000)
        if number % 3 == 0:
            client.send(stream, request, end=True)
            assert read_all(connection) == request
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            client.wait(h2.events.StreamEnded, stream)
        elif number % 3 == 1:
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            client.wait(h2.events.StreamEnded, stream)
            client.send(stream, request, end=True)
            assert read_all(connection) == request
        else:
            client.send(stream, request, end=True)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == request
            client.wait(h2.events.StreamEnded, stream)
        connection.close()
        assert client.data.pop(stream, b"") == answer
        assert peer.says("inbound") == "complete"


@pytest.mark.parametrize("code", [Code.CANCEL, Code.INTERNAL_ERROR, Code.CONNECT_ERROR])
def test_a_reset_of_the_stream_resets_the_application(served, code):
    peer, application, client = served
    stream, connection = opened(client, application)
    client.send(stream, b"before")
    assert connection.recv(10) == b"before"
    client.reset(stream, code)
    with pytest.raises(ConnectionResetError):
        connection.recv(10)
    assert peer.says("inbound") == "connection reset by the client"


@pytest.mark.parametrize("code, end", [(Code.NO_ERROR, False), (Code.CANCEL, True)])
def test_an_orderly_reset_is_an_end(served, code, end):
    peer, application, client = served
    stream, connection = opened(client, application)
    client.send(stream, b"all", end=end)
    client.reset(stream, code)
    assert read_all(connection) == b"all"
    assert peer.says("inbound") == "complete"


def test_an_application_that_resets_resets_the_stream(served):
    peer, application, client = served
    stream, connection = opened(client, application)
    reset(connection)
    assert client.wait(h2.events.StreamReset, stream).error_code == Code.CONNECT_ERROR
    assert peer.says("inbound") == "connection reset by the server"


def test_an_answer_before_a_reset_arrives(served):
    _, application, client = served
    stream, connection = opened(client, application)
    connection.sendall(b"x" * 50_000)
    while len(client.data.get(stream, b"")) < 50_000:
        client.pump()
    reset(connection)
    client.wait(h2.events.StreamReset, stream)


def test_content_before_the_answer_is_kept_up_to_a_limit(served):
    _, application, client = served
    stream = client.connect(application.authority)
    client.send(stream, b"e" * 60_000)
    connection = application.accept()
    got = b""
    while len(got) < 60_000:
        got += connection.recv(1 << 16)
    assert client.answer(stream)[":status"] == "200"


def test_too_much_content_before_the_answer_ends_the_stream(served):
    _, application, client = served
    stream = client.connect("held:1")
    client.send(stream, b"e" * 65_536)
    client.send(stream, b"e")
    assert client.wait(h2.events.StreamReset, stream).error_code == Code.ENHANCE_YOUR_CALM
    opened(client, application)


def test_bulk_in_small_frames_arrives_as_it_was_sent(served):
    _, application, client = served
    stream, connection = opened(client, application)
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()

    def read():
        while part := connection.recv(1 << 20):
            digest.update(part)

    reader = threading.Thread(target=read)
    reader.start()
    sent = hashlib.sha256()
    for _ in range(16):
        client.send(stream, block)
        sent.update(block)
    client.send(stream, b"", end=True)
    reader.join(PATIENCE)
    assert digest.digest() == sent.digest()


def test_a_client_that_reads_nothing_stops_its_stream_only(program, tmp_path):
    with Peer(program, tmp_path) as peer, Application() as application:
        client = dial(peer)
        client.h2.increment_flow_control_window(1 << 24)
        client.flush()
        client.gives_windows_back = False
        stopped, busy = opened(client, application), opened(client, application)
        stopped[1].setblocking(False)
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                sent += stopped[1].send(b"s" * 65536)
            except BlockingIOError:
                break
        busy[1].sendall(b"b" * 50_000)
        while len(client.data.get(busy[0], b"")) < 50_000:
            client.pump()
        # Its window is h2's 65,535 bytes; the rest waits in kernel buffers.
        assert len(client.data.get(stopped[0], b"")) <= 65_535
        client.close()


@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_client_without_a_name_or_of_another_trust_domain_gets_no_tunnel(program, tmp_path, name):
    with Peer(program, tmp_path) as peer:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client = dial(peer, name)
            client.connect("127.0.0.1:1")
            client.wait(h2.events.ResponseReceived)
        assert "tls" in peer.says("tunnel")


# Our client.


class Server:
    """An h2 server of the test's own, to which hbone-peer carries connections."""

    def __init__(self, program, folder):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.peer = Peer(program, folder, self.listener.getsockname()[1])

    def application(self):
        connection = socket.create_connection(("127.0.0.1", self.peer.outbound), PATIENCE)
        connection.settimeout(PATIENCE)
        return connection

    def tunnel(self, name="server", settings=None):
        raw, _ = self.listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return H2(tls(self.peer.folder, True, name).wrap_socket(raw, server_side=True), False, settings)

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.listener.close()
        self.peer.__exit__(*arguments)


@pytest.fixture
def dialled(program, tmp_path):
    with Server(program, tmp_path) as server:
        yield server


def requested(tunnel):
    return tunnel.wait(h2.events.RequestReceived)


def accept(tunnel, stream):
    tunnel.h2.send_headers(stream, [(":status", "200")])
    tunnel.flush()


def test_a_request_has_the_shape_of_connect(dialled):
    application = dialled.application()
    tunnel = dialled.tunnel()
    request = requested(tunnel)
    assert request.headers == [
        (":method", "CONNECT"), (":authority", "10.0.0.1:80"), ("baggage", "service.name=client"),
    ]
    peer_settings = tunnel.h2.remote_settings
    assert peer_settings.initial_window_size == 4 << 20 and peer_settings.max_frame_size == 1 << 20
    assert peer_settings.enable_push == 0
    application.sendall(b"early")
    accept(tunnel, request.stream_id)
    tunnel.wait(h2.events.DataReceived, request.stream_id)
    assert tunnel.data[request.stream_id] == b"early"
    application.shutdown(socket.SHUT_WR)
    tunnel.wait(h2.events.StreamEnded, request.stream_id)
    tunnel.send(request.stream_id, b"late", end=True)
    assert read_all(application) == b"late"
    assert dialled.peer.says("outbound") == "complete"


def test_several_connections_share_a_tunnel(dialled):
    applications = [dialled.application() for _ in range(50)]
    tunnel = dialled.tunnel()
    for number, application in enumerate(applications):
        stream = requested(tunnel).stream_id
        accept(tunnel, stream)
    streams = [1 + 2 * number for number in range(50)]
    for stream in streams:
        tunnel.send(stream, b"%d" % stream, end=True)
    assert sorted(int(read_all(application)) for application in applications) == streams


@pytest.mark.parametrize("status", ["400", "401", "403", "503"])
def test_another_status_closes_the_application_and_says_so(dialled, status):
    application = dialled.application()
    tunnel = dialled.tunnel()
    stream = requested(tunnel).stream_id
    tunnel.h2.send_headers(stream, [(":status", status)], end_stream=True)
    tunnel.flush()
    assert f"http status: {status}" in dialled.peer.says("failed")
    assert application.recv(1) == b""


def test_a_refused_stream_is_tried_once_more(dialled):
    application = dialled.application()
    tunnel = dialled.tunnel()
    tunnel.reset(requested(tunnel).stream_id, Code.REFUSED_STREAM)
    second = requested(tunnel).stream_id
    accept(tunnel, second)
    tunnel.send(second, b"there", end=True)
    assert read_all(application) == b"there"


def test_a_tunnel_that_leaves_is_followed_by_another(dialled):
    first_application = dialled.application()
    tunnel = dialled.tunnel()
    first = requested(tunnel).stream_id
    accept(tunnel, first)
    tunnel.sock.sendall(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + struct.pack(">II", first, 0))
    tunnel.send(first, b"still open")
    assert first_application.recv(20) == b"still open"
    second_application = dialled.application()
    another = dialled.tunnel()
    second = requested(another).stream_id
    accept(another, second)
    another.send(second, b"new", end=True)
    assert read_all(second_application) == b"new"
    tunnel.send(first, b", and done", end=True)
    assert read_all(first_application) == b", and done"


@pytest.mark.parametrize("code", [Code.CANCEL, Code.CONNECT_ERROR, Code.INTERNAL_ERROR])
def test_a_reset_behind_content_is_a_reset_behind_content(dialled, code):
    application = dialled.application()
    tunnel = dialled.tunnel()
    stream = requested(tunnel).stream_id
    accept(tunnel, stream)
    tunnel.send(stream, b"so far")
    tunnel.reset(stream, code)
    assert application.recv(10) == b"so far"
    with pytest.raises(ConnectionResetError):
        application.recv(10)
    assert dialled.peer.says("outbound") == "connection reset by the server"


def test_an_application_that_resets_resets_our_stream(dialled):
    application = dialled.application()
    tunnel = dialled.tunnel()
    stream = requested(tunnel).stream_id
    accept(tunnel, stream)
    tunnel.send(stream, b"x")
    assert application.recv(1) == b"x"
    reset(application)
    assert tunnel.wait(h2.events.StreamReset, stream).error_code == Code.CONNECT_ERROR
    assert dialled.peer.says("outbound") == "connection reset by the client"


def test_a_server_of_another_identity_is_refused(dialled):
    application = dialled.application()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tunnel = dialled.tunnel("stranger")
        requested(tunnel)
    assert "expected spiffe://cluster.local/ns/shop/sa/server" in dialled.peer.says("failed")
    assert application.recv(1) == b""
