"""Raw frames against our HTTP/2 on a real socket: the published attacks, and the tools of honest people."""

import re
import shutil
import socket
import subprocess
import time

import hpack
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from interop_program import Server, build, make_certificates

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
POST = [(":method", "POST")] + GET[1:]
CONNECT = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")]
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, REFUSED_STREAM, ENHANCE_YOUR_CALM = 1, 3, 5, 7, 11


@pytest.fixture(scope="module")
def program():
    return build()


@pytest.fixture(scope="module")
def server(program):
    with Server(program, "http2-server") as running:
        yield running


class Peer:
    """A client that sends what it is told to."""

    def __init__(self, server, settings=None):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.received = b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SettingsFrame(0, settings=settings or {}))

    def send(self, *frames):
        """Sends frames; a connection that the server has ended already is no error."""
        try:
            self.socket.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def headers(self, stream, fields, end=False):
        flags = ["END_HEADERS"] + (["END_STREAM"] if end else [])
        return HeadersFrame(stream, self.encoder.encode(fields), flags=flags)

    def frames(self):
        """What the server sends, up to the end of the connection."""
        while True:
            while len(self.received) < 9:
                try:
                    chunk = self.socket.recv(65536)
                except ConnectionResetError:
                    return
                if not chunk:
                    return
                self.received += chunk
            frame, length = Frame.parse_frame_header(memoryview(self.received[:9]))
            while len(self.received) < 9 + length:
                chunk = self.socket.recv(65536)
                if not chunk:
                    return
                self.received += chunk
            frame.parse_body(memoryview(self.received[9 : 9 + length]))
            self.received = self.received[9 + length :]
            yield frame

    def wait(self, kind, **attributes):
        """The first frame of a kind whose attributes are these."""
        for frame in self.frames():
            if isinstance(frame, kind) and all(getattr(frame, k) == v for k, v in attributes.items()):
                return frame
            if isinstance(frame, GoAwayFrame):
                raise AssertionError(f"the connection ended: {frame!r}")
        raise AssertionError("the connection ended without a word")

    def goaway(self):
        """The code with which the server ends the connection."""
        for frame in self.frames():
            if isinstance(frame, GoAwayFrame):
                return frame.error_code
        raise AssertionError("no GOAWAY")

    def poll(self):
        """Takes what has come without waiting; False when the server has closed."""
        self.socket.setblocking(False)
        try:
            chunk = self.socket.recv(1 << 20)
            self.received += chunk
            return bool(chunk)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.socket.settimeout(20)

    def has_goaway(self):
        """Whether a GOAWAY is among the frames that have come."""
        rest = self.received
        while len(rest) >= 9:
            if rest[3] == GoAwayFrame.type:
                return True
            rest = rest[9 + int.from_bytes(rest[:3], "big") :]
        return False

    def answers(self, stream):
        """The server still serves this connection."""
        self.send(self.headers(stream, GET, end=True))
        return self.wait(DataFrame, stream_id=stream).data == b"hello\n"


@pytest.fixture
def peer(server):
    made = Peer(server)
    yield made
    made.socket.close()


def test_the_server_greets_and_acknowledges(peer):
    greeting = peer.wait(SettingsFrame)
    assert greeting.settings[SettingsFrame.INITIAL_WINDOW_SIZE] == 4 << 20
    assert greeting.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 200
    assert peer.wait(SettingsFrame).flags == {"ACK"}
    assert peer.answers(1)


FLOODS = {
    "ping flood, CVE-2019-9512": lambda p, i: [PingFrame(0, b"12345678")],
    "settings flood, CVE-2019-9515": lambda p, i: [SettingsFrame(0)],
    "empty frames, CVE-2019-9518": lambda p, i: [p.headers(1, POST)] if i == 0 else [DataFrame(1)],
    "padded empty frames": lambda p, i: [p.headers(1, POST)]
    if i == 0
    else [DataFrame(1, pad_length=200, flags=["PADDED"])],
    "resource loop, CVE-2019-9513": lambda p, i: [PriorityFrame(i % 50 * 2 + 1, depends_on=i % 40 * 2 + 2)],
    "window opened byte by byte, CVE-2019-9511": lambda p, i: [p.headers(1, POST)]
    if i == 0
    else [WindowUpdateFrame(1, window_increment=1)],
    "reset flood, CVE-2019-9514": lambda p, i: [p.headers(i * 2 + 1, GET + [("connection", "x")], end=True)],
    "MadeYouReset by empty updates, CVE-2025-8671": lambda p, i: [
        p.headers(i * 2 + 1, GET, end=True),
        WindowUpdateFrame(i * 2 + 1, window_increment=0),
    ],
    "MadeYouReset by content behind the end": lambda p, i: [
        p.headers(i * 2 + 1, POST, end=True),
        DataFrame(i * 2 + 1, b"x"),
    ],
    "streams over the limit": lambda p, i: [p.headers(i * 2 + 1, POST)],
    "CONTINUATION flood, VU#421644": lambda p, i: [HeadersFrame(1, p.encoder.encode(GET))]
    if i == 0
    else [ContinuationFrame(1, b"")],
    "CONTINUATION flood of many bytes": lambda p, i: [HeadersFrame(1, p.encoder.encode(GET))]
    if i == 0
    else [ContinuationFrame(1, b"\x00\x01x\x7f\x81\x7c" + b"y" * 16000)],
    "unknown frames": lambda p, i: [b"\0\0\4\x77\0\0\0\0\0abcd"],
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_and_no_other(server, name):
    attacker, other = Peer(server), Peer(server)
    for start in range(0, 40_000, 100):
        frames = [frame for i in range(start, start + 100) for frame in FLOODS[name](attacker, i)]
        attacker.send(*frames)
        # Reads the answers, as a clever attacker does, up to the server's last word.
        if not attacker.poll() or attacker.has_goaway():
            break
    assert attacker.goaway() == ENHANCE_YOUR_CALM
    assert other.answers(1)
    attacker.socket.close()
    other.socket.close()


def test_rapid_reset_does_little_work_cve_2023_44487(server):
    """Streams that nobody has answered: sent in one piece, before the server could."""
    attacker, other = Peer(server), Peer(server)
    for start in range(0, 20_000, 500):
        frames = []
        for i in range(start, start + 500):
            frames += [attacker.headers(i * 2 + 1, GET, end=True), RstStreamFrame(i * 2 + 1, error_code=8)]
        attacker.send(*frames)
    # The test's server answers within the same turn, so that the resets are late: it must still be well.
    assert other.answers(1)
    attacker.socket.close()
    other.socket.close()


def test_hpack_bomb_cve_2016_6581(peer):
    field = peer.encoder.encode(GET) + b"\x40\x01a\x7f\xbd\x1d" + b"x" * 3900
    peer.send(HeadersFrame(1, field + b"\xbe" * 12_000, flags=["END_HEADERS", "END_STREAM"]))
    assert peer.wait(RstStreamFrame, stream_id=1).error_code == ENHANCE_YOUR_CALM
    # The compression state is still in step. (The encoder here does not know of the field above: static names only.)
    peer.send(HeadersFrame(3, b"\x82\x86\x84\x41\x01a", flags=["END_HEADERS", "END_STREAM"]))
    assert peer.wait(DataFrame, stream_id=3).data == b"hello\n"


def test_a_header_block_over_the_limit_is_refused_by_its_length(peer):
    peer.send(b"\x01\x11\x70\x01\x05\0\0\0\1")
    assert peer.goaway() == ENHANCE_YOUR_CALM


def test_empty_header_names_cve_2019_9516(peer):
    peer.send(HeadersFrame(1, peer.encoder.encode(GET) + b"\x00\x00\x00", flags=["END_HEADERS", "END_STREAM"]))
    assert peer.wait(RstStreamFrame, stream_id=1).error_code == PROTOCOL_ERROR
    assert peer.answers(3)


def test_replies_that_nobody_reads_are_bounded(server):
    """Never reads; what the server would answer must not pile up in it (CVE-2019-9512, -9515)."""
    peer = Peer(server)
    peer.socket.settimeout(5)
    try:
        for _ in range(2_000):
            peer.socket.sendall(PingFrame(0, b"12345678").serialize() * 1_000)
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass
    assert Peer(server).answers(1)
    peer.socket.close()


def test_a_window_of_zero_keeps_nothing_but_its_stream(server):
    """Slow read (CVE-2016-1546, CVE-2019-9517): answers wait for a window that never opens."""
    peer = Peer(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    peer.send(*[peer.headers(i * 2 + 1, GET, end=True) for i in range(200)])
    for _ in range(200):
        peer.wait(HeadersFrame)
    assert Peer(server).answers(1)
    peer.send(WindowUpdateFrame(399, window_increment=6))
    assert peer.wait(DataFrame, stream_id=399).data == b"hello\n"
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 6}))
    assert peer.wait(DataFrame).data == b"hello\n"
    peer.socket.close()


def test_a_byte_beyond_the_window_resets_the_stream(peer):
    # The server echoes, and takes no more than it can send back: after our 64 KiB nothing is consumed.
    peer.send(peer.headers(1, POST))
    for _ in range(70):
        peer.send(DataFrame(1, bytes(65_536)))
    assert peer.wait(RstStreamFrame, stream_id=1).error_code == FLOW_CONTROL_ERROR
    # The connection's window of ours is used up by what the stream sent before; nothing else is broken.
    peer.send(WindowUpdateFrame(0, window_increment=1 << 20))
    assert peer.answers(3)


def test_streams_over_the_limit_are_refused(peer):
    peer.send(*[peer.headers(i * 2 + 1, POST) for i in range(201)])
    assert peer.wait(RstStreamFrame, stream_id=401).error_code == REFUSED_STREAM


@pytest.mark.parametrize(
    "fields",
    [
        GET + [("Upper", "x")],
        GET + [("transfer-encoding", "chunked")],
        GET + [("te", "gzip")],
        GET + [("a", "x\r\ny: z")],
        GET + [("a", "x\0y")],
        GET[:3],
        GET + [(":path", "/b")],
        [("a", "b")] + GET,
        CONNECT + [(":path", "/")],
        CONNECT[:1],
        GET[:2] + [(":authority", "user@a")] + GET[3:],
        GET[:3] + [(":path", "x")],
        GET + [("host", "other")],
        GET + [("content-length", "1")],
    ],
    ids=str,
)
def test_malformed_requests_are_reset(peer, fields):
    peer.send(peer.headers(1, fields, end=True))
    assert peer.wait(RstStreamFrame, stream_id=1).error_code == PROTOCOL_ERROR
    assert peer.answers(3)


@pytest.mark.parametrize("cut", [1, 2, 9, 10, 13])
def test_frames_may_come_in_any_pieces(server, cut):
    peer = Peer(server)
    frames = peer.headers(1, CONNECT).serialize() + DataFrame(1, b"some content", flags=["END_STREAM"]).serialize()
    for start in range(0, len(frames), cut):
        peer.send(frames[start : start + cut])
        time.sleep(0.001)
    assert peer.wait(DataFrame, stream_id=1).data.startswith(b"s")
    peer.socket.close()


def test_half_closing_a_tunnel_loses_nothing(server):
    for _ in range(200):
        peer = Peer(server)
        peer.send(peer.headers(1, CONNECT), DataFrame(1, b"request"), DataFrame(1, b"", flags=["END_STREAM"]))
        content = b""
        for frame in peer.frames():
            if isinstance(frame, DataFrame):
                content += frame.data
                if "END_STREAM" in frame.flags:
                    break
        assert content == b"request"
        peer.socket.close()


# Honest tools


def need(tool):
    return shutil.which(tool) or pytest.skip(f"{tool} is not installed")


@pytest.mark.parametrize("arguments", [["-n100000", "-c10", "-m100"], ["-n20000", "-c4", "-m10", "-d", __file__]])
def test_h2load_passes(server, arguments):
    done = subprocess.run(
        [need("h2load"), *arguments, f"http://127.0.0.1:{server.port}/"], capture_output=True, text=True, timeout=170
    )
    total = int(arguments[0][2:])
    assert f"{total} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout


def test_nghttp_gets_and_uploads(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}/"
    done = subprocess.run([need("nghttp"), url, url + "2", url + "3"], capture_output=True, timeout=30)
    assert done.stdout == b"hello\n" * 3
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 40_000)
    for options in ([], ["-b", "200"], ["--no-content-length"], ["-w", "10", "-W", "10"]):
        done = subprocess.run([need("nghttp"), "-d", upload, *options, url], capture_output=True, timeout=60)
        assert done.stdout == upload.read_bytes(), options


def test_curl_gets_and_uploads(server, program, tmp_path):
    command = [need("curl"), "-sS", "--http2-prior-knowledge", "--max-time", "60"]
    url = f"http://127.0.0.1:{server.port}/"
    assert subprocess.check_output([*command, url]) == b"hello\n"
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 80_000)
    assert subprocess.check_output([*command, "--data-binary", f"@{upload}", url]) == upload.read_bytes()
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    with Server(program, "http2-server", tls=folder / "server") as secured:
        client = folder / "client"
        shown = subprocess.check_output(
            [*command[:2], "--http2", "--cacert", client / "root.pem", "--cert", client / "cert.pem", "--key",
             client / "key.pem", "-w", "%{http_version}", f"https://localhost:{secured.port}/"]
        )
        assert re.fullmatch(rb"hello\n2", shown)
