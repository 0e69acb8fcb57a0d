"""Our gRPC against python grpcio, each of them as client and as server."""

import concurrent.futures
import socket
import subprocess
import threading
import time

import grpc
import pytest

from interop_program import CLIENT_URI, Server, build, make_certificates, run_client

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="module")
def program():
    return build()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


# Our server, grpcio's client


@pytest.fixture
def server(program):
    with Server(program, "grpc-server") as running:
        yield running


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address, options=UNLIMITED) as made:
        yield made


def unary(channel, method, message=b"", **options):
    return channel.unary_unary(f"/test.Echo/{method}")(message, timeout=options.pop("timeout", 60), **options)


def test_answers_unary_calls(channel):
    for size in (0, 1, 5, 16379, 16380, 70_000):
        message = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert unary(channel, "Unary", message) == message


def test_takes_and_sends_messages_of_20_mib(channel):
    message = bytes(20 << 20)
    assert unary(channel, "Unary", message) == message
    assert len(unary(channel, "Large", b"20971520")) == 20 << 20


def test_refuses_a_message_over_its_limit(channel):
    with pytest.raises(grpc.RpcError) as error:
        unary(channel, "Unary", bytes((64 << 20) + 1))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_streams_tens_of_thousands_of_messages_both_ways(channel):
    count = 50_000
    answers = channel.stream_stream("/test.Echo/Stream")((b"message %d" % i for i in range(count)), timeout=120)
    for i, answer in enumerate(answers):
        assert answer == b"message %d" % i
    assert i == count - 1


def test_sends_as_fast_as_the_client_takes(channel):
    call = channel.unary_stream("/test.Echo/Flood")(b"200000", timeout=120)
    for i, message in enumerate(call):
        assert message == b"%d" % i
        if i == 100:
            time.sleep(0.5)  # The windows fill up meanwhile; nothing is lost by it.
    assert i == 199_999


def test_many_calls_at_once(channel):
    method = channel.unary_unary("/test.Echo/Unary")
    calls = [method.future(b"%d" % i, timeout=60) for i in range(2_000)]
    assert [call.result() for call in calls] == [b"%d" % i for i in range(2_000)]


def test_says_status_and_message_at_once(channel):
    text = "50% \n ä 漢"
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        with pytest.raises(grpc.RpcError) as error:
            unary(channel, "Fail", metadata=(("x-code", str(code.value[0])), ("x-message-bin", text.encode())))
        assert (error.value.code(), error.value.details()) == (code, text)


def test_does_not_know_other_methods(channel):
    with pytest.raises(grpc.RpcError) as error:
        unary(channel, "NoSuchMethod")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_refuses_compression_that_it_does_not_speak(channel):
    with pytest.raises(grpc.RpcError) as error:
        unary(channel, "Unary", bytes(10_000), compression=grpc.Compression.Gzip)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_carries_metadata_of_text_and_of_bytes(channel):
    sent = (("x-text", "some text"), ("x-raw-bin", bytes(range(256))))
    call = channel.stream_stream("/test.Echo/Metadata")(iter([]), metadata=sent, timeout=60)
    assert dict(call.initial_metadata()).items() >= dict(sent).items()
    assert list(call) == []
    assert dict(call.trailing_metadata()).items() >= dict(sent).items()


def test_ends_a_call_when_its_deadline_passes(server, channel):
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        unary(channel, "Hang", timeout=0.3)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.2 < time.monotonic() - started < 5
    line = server.wait_for("hang ended")
    assert "deadlineExceeded" in line or "cancelled" in line
    assert unary(channel, "Cancelled") == b"1"


def test_hears_of_a_cancelled_call(server, channel):
    call = channel.stream_stream("/test.Echo/Hang")(iter([b"x"]))
    time.sleep(0.2)
    call.cancel()
    assert "cancelled" in server.wait_for("hang ended")


def test_lets_a_running_call_finish_after_its_goaway(server, channel):
    more = threading.Event()

    def messages():
        yield b"first"
        more.wait()
        yield b"last"

    answers = channel.stream_stream("/test.Echo/Drain")(messages(), timeout=60)
    assert next(answers) == b"first"
    more.set()
    assert next(answers) == b"last"
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK
    server.wait_for("drained")


def test_survives_a_client_that_vanishes(server, channel):
    other = socket.create_connection(("127.0.0.1", server.port))
    other.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    assert unary(channel, "Unary", b"x") == b"x"


def credentials(certificates, name):
    folder = certificates / name
    return [(folder / file).read_bytes() for file in ("root.pem", "key.pem", "cert.pem")]


def test_knows_the_client_by_its_certificate(program, certificates):
    with Server(program, "grpc-server", tls=certificates / "server") as server:
        root, key, chain = credentials(certificates, "client")
        for given, expected in (((root, key, chain), CLIENT_URI.encode()), ((root,), b"nobody")):
            secret = grpc.ssl_channel_credentials(*given)
            with grpc.secure_channel(f"localhost:{server.port}", secret, options=UNLIMITED) as channel:
                assert unary(channel, "Peer") == expected
                message = bytes(1 << 20)
                assert unary(channel, "Unary", message) == message


# Our client, grpcio's server


class EchoServer(grpc.GenericRpcHandler):
    """test.Echo once more, by grpcio."""

    def service(self, details):
        name = details.method.rpartition("/")[2]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
            "Stream": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
            "Fail": grpc.stream_stream_rpc_method_handler(self.fail),
            "Hang": grpc.stream_stream_rpc_method_handler(self.hang),
            "Metadata": grpc.stream_stream_rpc_method_handler(self.metadata),
            "Peer": grpc.unary_unary_rpc_method_handler(self.peer),
        }.get(name)

    def __init__(self):
        self.cancelled = threading.Event()

    def fail(self, _, context):
        given = dict(context.invocation_metadata())
        code = next(c for c in grpc.StatusCode if c.value[0] == int(given["x-code"]))
        context.abort(code, given["x-message-bin"].decode())
        yield

    def hang(self, _, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(30)
        yield b""

    def metadata(self, _, context):
        given = dict(context.invocation_metadata())
        sent = [(name, given[name]) for name in ("x-text", "x-raw-bin")]
        context.send_initial_metadata(sent)
        context.set_trailing_metadata(sent)
        yield from ()

    def peer(self, _, context):
        names = context.auth_context().get("x509_subject_alternative_name", [b"nobody"])
        return b",".join(names)


@pytest.fixture
def grpcio():
    with running_grpcio() as made:
        yield made


class running_grpcio:
    def __init__(self, secret=None, port=0):
        self.handler = EchoServer()
        pool = concurrent.futures.ThreadPoolExecutor(8)
        self.server = grpc.server(pool, handlers=[self.handler], options=UNLIMITED)
        address = f"127.0.0.1:{port}"
        self.port = (
            self.server.add_secure_port(address, secret) if secret else self.server.add_insecure_port(address)
        )
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()


def test_calls_unary(program, grpcio):
    assert run_client(program, grpcio.port, "unary") == (0, ["message hello", "status ok "])


def test_sends_and_takes_messages_of_20_mib(program, grpcio):
    assert run_client(program, grpcio.port, "large", 20 << 20) == (0, [f"bytes {20 << 20}", "status ok "])


def test_streams_tens_of_thousands_of_messages(program, grpcio):
    assert run_client(program, grpcio.port, "stream", 30_000) == (0, ["received 30000", "status ok "])


@pytest.mark.parametrize("code", [1, 2, 3, 5, 7, 12, 14, 16])
def test_reads_status_and_message(program, grpcio, code):
    status, lines = run_client(program, grpcio.port, "fail", code)
    assert status == 0
    assert "\n".join(lines).endswith("50% \n ä")
    assert lines[1].startswith("status ") and not lines[1].startswith("status ok")


def test_hears_that_a_method_is_unknown(program, grpcio):
    assert run_client(program, grpcio.port, "unknown")[1][-1].startswith("status unimplemented")


def test_carries_metadata(program, grpcio):
    values = "some text [0, 1, 254, 255]"
    assert run_client(program, grpcio.port, "metadata")[1] == [
        f"initial {values}",
        f"trailing {values}",
        "received 0",
        "status ok ",
    ]


def test_ends_its_own_call_at_the_deadline(program, grpcio):
    assert run_client(program, grpcio.port, "deadline", 300)[1][-1].startswith("status deadlineExceeded")
    assert grpcio.handler.cancelled.wait(10)


def test_cancels(program, grpcio):
    assert run_client(program, grpcio.port, "cancel")[1] == ["received 1", "status cancelled cancelled by the caller"]


def test_reconnects_after_a_goaway_and_after_a_restart(program):
    first = running_grpcio()
    done = {}
    thread = threading.Thread(target=lambda: done.update(result=run_client(program, first.port, "repeat", 100)))
    thread.start()
    time.sleep(0.7)
    # GOAWAY, with five seconds for calls that run; the port is free again before that.
    first.server.stop(5).wait()
    time.sleep(0.3)
    with running_grpcio(port=first.port):
        thread.join()
    status, lines = done["result"]
    assert status == 0
    assert lines == [f"message {i}" for i in range(1, 101)] + ["status ok "]


def test_ends_its_calls_when_the_server_vanishes(program):
    """A proxy that swallows everything after the first answer: only a PING can tell."""
    with running_grpcio() as server:
        listener = socket.create_server(("127.0.0.1", 0))
        swallow = threading.Event()

        def pump(source, target):
            while data := source.recv(65536):
                if not swallow.is_set():
                    target.sendall(data)

        def relay():
            client, _ = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", server.port))
            threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
            threading.Thread(target=pump, args=(upstream, client), daemon=True).start()

        threading.Thread(target=relay, daemon=True).start()
        port = listener.getsockname()[1]
        with subprocess.Popen([program, "client", str(port), "hold"], stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout.readline() == "holding\n"
            swallow.set()
            started = time.monotonic()
            rest = client.stdout.read().splitlines()
        assert rest[-1].startswith("status unavailable") and "keepAlive" in rest[-1]
        assert time.monotonic() - started < 10
        listener.close()


def test_hears_that_a_server_closes_its_connection(program):
    """Accepts, answers nothing, and resets: the call ends, its reason is told."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        connection, _ = listener.accept()
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    thread = threading.Thread(target=refuse)
    thread.start()
    assert run_client(program, listener.getsockname()[1], "unary")[1][-1].startswith("status unavailable")
    thread.join()
    port = listener.getsockname()[1]
    listener.close()
    assert run_client(program, port, "unary")[1][-1].startswith("status unavailable cannot connect")


def test_authenticates_with_client_certificates(program, certificates):
    root, key, chain = credentials(certificates, "server")
    secret = grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)
    with running_grpcio(secret) as server:
        client = certificates / "client"
        assert run_client(program, server.port, "peer", tls=client) == (0, [f"message {CLIENT_URI}", "status ok "])
        assert run_client(program, server.port, "large", 3 << 20, tls=client)[1][-1] == "status ok "
        # A server that another root vouches for is not spoken to.
        assert run_client(program, server.port, "unary")[1][-1].startswith("status unavailable")


# Ours against ours


def test_both_sides_are_ours(program, server, certificates):
    assert run_client(program, server.port, "stream", 50_000) == (0, ["received 50000", "status ok "])
    assert run_client(program, server.port, "large", 20 << 20)[1][-1] == "status ok "
    assert run_client(program, server.port, "drain", 100) == (0, ["received 100", "status ok "])
    with Server(program, "grpc-server", tls=certificates / "server") as secured:
        lines = run_client(program, secured.port, "peer", tls=certificates / "client")[1]
        assert lines == [f"message {CLIENT_URI}", "status ok "]
