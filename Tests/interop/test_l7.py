"""The proxy of requests between programs that are not ours: curl, nghttp and h2load, grpcio and wsproto on one side, nginx, grpcio, wsproto and
plain sockets on the other."""

import concurrent.futures
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import grpc
import pytest
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIG = os.urandom(3_000_000)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.05)


class Server:
    """Accepts connections and gives each to a function on a thread of its own."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Proxy:
    """`l7-proxy`, and what it said of each exchange."""

    def __init__(self, path, *services):
        self.process = subprocess.Popen([path, *services], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def said(self, pattern):
        deadline = time.monotonic() + 60
        while not any(re.fullmatch(pattern, line) for line in self.lines):
            assert time.monotonic() < deadline, f"{pattern} is not among {self.lines[-5:]}"
            time.sleep(0.01)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return connection

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program():
    command = ["swift", "build", "--product", "l7-proxy"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*command, "--show-bin-path"], cwd=ROOT, text=True).strip()
    return pathlib.Path(shown) / "l7-proxy"


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "www").mkdir()
    (directory / "www" / "index.html").write_text("hello\n")
    (directory / "www" / "big").write_bytes(BIG)
    port = free_port()
    paths = "".join(f"{kind}_temp_path {directory}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths} keepalive_requests 50; client_max_body_size 0;\n"
        f"server {{ listen 127.0.0.1:{port}; root {directory}/www; client_body_buffer_size 4m;\n"
        f"location /upload {{ dav_methods PUT; create_full_put_path on; }} }} }}\n")
    process = subprocess.Popen([nginx, "-c", str(directory / "nginx.conf")], stderr=subprocess.DEVNULL)
    wait_for(port)
    yield port, directory / "www"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def web(program, nginx):
    proxy = Proxy(program, f"main={nginx[0]}")
    yield proxy
    proxy.close()


def curl(*arguments):
    return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, check=True).stdout


VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])


@VERSIONS
def test_files_of_any_size_come_whole(web, version):
    assert curl(version, web.url + "/") == b"hello\n"
    assert curl(version, web.url + "/big") == BIG
    assert curl(version, web.url + "/main/big", "-r", "5-9") == BIG[5:10]
    head = curl(version, "-I", web.url + "/big").decode()
    assert f"content-length: {len(BIG)}" in head and "server: istio-envoy" in head


@VERSIONS
@pytest.mark.parametrize("encoding", ["length", "chunked"])
def test_uploads_arrive_whole(web, nginx, version, encoding):
    name = f"upload/{version.strip('-')}-{encoding}"
    # From standard input curl knows no length.
    source = str(nginx[1] / "big") if encoding == "length" else "-"
    command = ["curl", "-sS", "--max-time", "60", version, "-o", "/dev/null", "-w", "%{http_code}", "-T", source, f"{web.url}/{name}"]
    status = subprocess.run(command, input=BIG, capture_output=True, check=True).stdout
    assert status == b"201"
    assert (nginx[1] / name).read_bytes() == BIG


@VERSIONS
def test_answers_of_the_proxy_itself(web, version):
    assert curl(version, web.url + "/-/direct") == b"direct\n"
    shown = curl(version, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", web.url + "/-/redirect").decode()
    assert shown == f"302 {web.url}/there"
    assert curl(version, "-w", " %{http_code}", web.url + "/-/abort") == b"fault filter abort 503"
    web.said(r"503 FI 0 GET /-/abort")


def test_nghttp_reads_every_frame(web):
    shown = subprocess.run(["nghttp", "-nv", web.url + "/big", web.url + "/"], capture_output=True, text=True, check=True).stdout
    assert shown.count(":status: 200") == 2 and "recv GOAWAY" not in shown


@pytest.mark.parametrize("options", [["-m", "20"], ["--h1"]])
def test_many_requests_at_once(web, options):
    shown = subprocess.run(
        ["h2load", "-n", "2000", "-c", "8", *options, web.url + "/"], capture_output=True, text=True, check=True).stdout
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in shown and "2000 2xx" in shown


def test_two_services_and_one_that_is_not_there(program, nginx):
    proxy = Proxy(program, f"main={nginx[0]}", f"dead={free_port()}", f"half={free_port()},{nginx[0]}")
    try:
        for _ in range(10):
            assert curl(proxy.url + "/half/") == b"hello\n"
        answer = curl("-w", " %{http_code}", proxy.url + "/dead/").decode()
        assert answer == ("upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
                          "connection failure 503")
        proxy.said(r"503 UF,URX 3 GET /dead/")
    finally:
        proxy.close()


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        def unary(request, context):
            if request == b"fail":
                context.abort(grpc.StatusCode.NOT_FOUND, "not here")
            context.set_trailing_metadata((("x-after", "1"),))
            return request

        def stream(requests, context):
            for request in requests:
                yield request * 2

        if details.method == "/echo.Echo/Unary":
            return grpc.unary_unary_rpc_method_handler(unary)
        return grpc.stream_stream_rpc_method_handler(stream) if details.method == "/echo.Echo/Stream" else None


@pytest.fixture(scope="module")
def calls(program):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), handlers=(Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    proxy = Proxy(program, f"main=h2:{port}", f"dead=h2:{free_port()}")
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        yield channel, proxy
    proxy.close()
    server.stop(None)


def test_calls_of_grpc(calls):
    channel, proxy = calls
    unary = channel.unary_unary("/echo.Echo/Unary")
    for size in (0, 1, 100_000, 3_000_000):
        answer, call = unary.with_call(BIG[:size], timeout=60)
        assert answer == BIG[:size] and ("x-after", "1") in call.trailing_metadata()
    waiting = [unary.future(bytes([number]), timeout=60) for number in range(100)]
    assert [call.result() for call in waiting] == [bytes([number]) for number in range(100)]
    with pytest.raises(grpc.RpcError) as error:
        unary(b"fail", timeout=60)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND and error.value.details() == "not here"
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/echo.Echo/Nothing")(b"", timeout=60)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_streams_of_grpc_in_step(calls):
    channel, _ = calls
    sent = threading.Semaphore(1)

    def requests():
        for number in range(50):
            assert sent.acquire(timeout=60)
            yield bytes([number]) * 1_000

    count = 0
    for answer in channel.stream_stream("/echo.Echo/Stream")(requests(), timeout=60):
        assert answer == bytes([count]) * 2_000
        count += 1
        sent.release()
    assert count == 50


def test_a_call_to_nobody_has_a_status_that_grpc_understands(calls):
    channel, _ = calls
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/dead/echo.Echo")(b"", timeout=60)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE and "connection failure" in error.value.details()


def serve_websocket(connection):
    machine = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    with connection:
        while data := connection.recv(65_536):
            machine.receive_data(data)
            for event in machine.events():
                if isinstance(event, Request):
                    connection.sendall(machine.send(AcceptConnection()))
                elif isinstance(event, BytesMessage):
                    connection.sendall(machine.send(BytesMessage(bytes(event.data), message_finished=event.message_finished)))
                elif isinstance(event, CloseConnection):
                    return connection.sendall(machine.send(event.response()))


def test_a_websocket(program):
    server = Server(serve_websocket)
    proxy = Proxy(program, f"main={server.port}")
    machine = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    try:
        with proxy.connect() as connection:
            connection.sendall(machine.send(Request(host="app", target="/chat")))
            got = bytearray()
            sent = False
            while True:
                data = connection.recv(65_536)
                machine.receive_data(data or None)
                for event in machine.events():
                    if isinstance(event, AcceptConnection):
                        threading.Thread(target=connection.sendall, args=(machine.send(BytesMessage(BIG)),), daemon=True).start()
                        sent = True
                    elif isinstance(event, BytesMessage):
                        got += event.data
                if sent and len(got) == len(BIG):
                    break
                assert data, "the connection ended early"
            assert bytes(got) == BIG
            connection.sendall(machine.send(CloseConnection(code=1000)))
            while data := connection.recv(65_536):
                machine.receive_data(data)
        proxy.said(r"101 - 1 CONNECT /chat")
    finally:
        proxy.close()
        server.close()


def test_a_server_that_speaks_first_and_a_client_that_is_no_http(program):
    def serve(connection):
        with connection:
            connection.sendall(b"220 ready\r\n")
            line = connection.recv(100)
            connection.sendall(b"you said " + line)

    server = Server(serve)
    proxy = Proxy(program, f"main={server.port}")
    try:
        with proxy.connect() as silent:
            assert silent.recv(100) == b"220 ready\r\n"
            silent.sendall(b"EHLO x\r\n")
            assert silent.makefile("rb").read() == b"you said EHLO x\r\n"
        with proxy.connect() as binary:
            binary.sendall(b"\x00\x01\x02")
            assert binary.makefile("rb").read() == b"220 ready\r\nyou said \x00\x01\x02"
    finally:
        proxy.close()
        server.close()


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("fields", [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 4\r\nContent-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n", b"Content-Length: 0x4\r\n", b"Content-Length: -1\r\n", b"X: 1\nTransfer-Encoding: chunked\r\n",
    b"X: 1\rTransfer-Encoding: chunked\r\n", b"Host: b\r\n", b"Content-Length: 4, 4, 0\r\n", b"Transfer-Encoding: chunked;x\r\n",
])
def test_what_two_could_read_in_two_ways_reaches_nobody(program, fields):
    reached = []
    server = Server(lambda connection: reached.append(connection.recv(65_536)))
    proxy = Proxy(program, f"main={server.port}")
    try:
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n0\r\n\r\n" + SMUGGLED)
            answer = client.makefile("rb").read()
        assert re.match(rb"HTTP/1.1 (400|501) ", answer) and answer.count(b"HTTP/1.1 ") == 1
        assert not reached
    finally:
        proxy.close()
        server.close()


def test_a_slow_service_is_cut_off(program):
    server = Server(lambda connection: connection.recv(1) and time.sleep(60))
    proxy = Proxy(program, f"main={server.port}")
    try:
        assert curl("-w", " %{http_code}", proxy.url + "/-/timeout") == b"upstream request timeout 504"
        proxy.said(r"504 UT 1 GET /-/timeout")
    finally:
        proxy.close()
        server.close()
