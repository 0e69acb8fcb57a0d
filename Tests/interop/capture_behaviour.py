"""What the capture rules do to packets, seen by ordinary sockets. Run by CaptureTests, as root.

    pod (app, and sockets like the daemon's)                     peer
    10.98.1.2  fd98:1::2  pod0 ─────────────── peer0  10.98.1.1  fd98:1::1
    default route by the peer                         10.98.9.9  fd98:9::9 on its loopback

usage: capture_behaviour.py POD PEER UID all       the rules are in place; prints one JSON object of observations
       capture_behaviour.py POD PEER UID straddle  opens a connection, prints "open", reads a line (the rules come),
                                                   then prints what became of the connection
       capture_behaviour.py POD PEER UID families  prints how connections fail that nobody takes, by family
"""
import contextlib, ctypes, errno, json, os, socket, struct, sys

POD, PEER, DAEMON = sys.argv[1], sys.argv[2], int(sys.argv[3])
APP = 1000
MARK = 0x539
LIBC = ctypes.CDLL(None, use_errno=True)
ADDRESS = {
    4: {"pod": "10.98.1.2", "peer": "10.98.1.1", "far": "10.98.9.9", "loopback": "127.0.0.1"},
    6: {"pod": "fd98:1::2", "peer": "fd98:1::1", "far": "fd98:9::9", "loopback": "::1"},
}
HOME = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def inside(namespace, uid=APP):
    """Sockets made here belong to `namespace` and, for netfilter, to `uid`: the fsuid of their maker."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert LIBC.setns(there, 0x40000000) == 0
    LIBC.setfsuid(uid)
    try:
        yield
    finally:
        LIBC.setfsuid(0)
        assert LIBC.setns(HOME, 0x40000000) == 0
        os.close(there)


def make(family, kind=socket.SOCK_STREAM, mark=0):
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    made.settimeout(3)
    if mark:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return made


def listen(namespace, port, family, uid=APP, mark=0, address=None):
    with inside(namespace, uid):
        made = make(family, mark=mark)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if mark:  # As the daemon's: IP_TRANSPARENT, IPV6_TRANSPARENT
            made.setsockopt(*((socket.SOL_IP, 19) if family == 4 else (socket.IPPROTO_IPV6, 75)), 1)
        made.bind((address or ("0.0.0.0" if family == 4 else "::"), port))
        made.listen(8)
        return made


def connect(namespace, to, port, family, uid=APP, mark=0, source=None, device=None):
    with inside(namespace, uid):
        made = make(family, mark=mark)
        if device:
            made.setsockopt(socket.SOL_SOCKET, 25, device.encode())  # SO_BINDTODEVICE
        if source:
            level, option = (socket.SOL_IP, 19) if family == 4 else (socket.IPPROTO_IPV6, 75)
            made.setsockopt(level, option, 1)  # IP_TRANSPARENT, IPV6_TRANSPARENT
            made.bind((source, 0))
        try:
            made.connect((to, port))
            return made
        except OSError as error:
            made.close()
            return error


def original_destination(accepted, family):
    """Where a captured connection was going: what it was redirected from, or else the address that it has kept."""
    own = accepted.getsockname()[:2]
    return own if own[1] not in (15001, 15006) else redirected_from(accepted, family)


def redirected_from(accepted, family):
    if family == 4:
        raw = accepted.getsockopt(socket.SOL_IP, 80, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    raw = accepted.getsockopt(socket.IPPROTO_IPV6, 80, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]


def took(listeners):
    """Which listener has a connection, and the connection; after the client's connect it is there or never comes."""
    for name, listener in listeners.items():
        listener.settimeout(0)
        try:
            return name, listener.accept()[0]
        except BlockingIOError:
            pass
    return None, None


def conversation(client, server):
    """Whether bytes go both ways."""
    server.settimeout(3)
    client.sendall(b"ping")
    heard = server.recv(10)
    server.sendall(b"pong")
    return heard == b"ping" and client.recv(10) == b"pong"


def tcp(family):
    found, address = {}, ADDRESS[family]
    at = {
        "outbound": listen(POD, 15001, family, DAEMON, MARK),
        "inbound": listen(POD, 15006, family, DAEMON, MARK),
        "tunnel": listen(POD, 15008, family, DAEMON, MARK),
        "app": listen(POD, 9090, family),
        "peer": listen(PEER, 8080, family),
    }

    def attempt(name, *arguments, **options):
        client = connect(*arguments, **options)
        if isinstance(client, OSError):
            where, accepted = took(at)
            found[name] = {"at": where, "error": type(client).__name__}
            return
        where, accepted = took(at)
        found[name] = {"at": where}
        if accepted is None:
            return
        found[name]["from"] = accepted.getpeername()[0]
        if where in ("outbound", "inbound"):
            found[name]["to"] = "%s %d" % original_destination(accepted, family)
        found[name]["talks"] = conversation(client, accepted)
        accepted.close()
        client.close()

    peer, pod, far = address["peer"], address["pod"], address["far"]
    attempt("an app's connection", POD, peer, 8080, family)
    attempt("an app's connection without a daemon's mark, by its uid", POD, peer, 8080, family, uid=DAEMON)
    attempt("the daemon's connection", POD, peer, 8080, family, uid=DAEMON, mark=MARK)
    attempt("the daemon's with more bits in its mark", POD, peer, 8080, family, uid=DAEMON, mark=0x7000 | MARK)
    attempt("a forged mark", POD, peer, 8080, family, uid=APP, mark=MARK)
    attempt("a forged mark of root", POD, peer, 8080, family, uid=0, mark=MARK)
    attempt("a forged connection mark", POD, peer, 8080, family, uid=APP, mark=0x111)
    attempt("a forged mark of what arrives", POD, peer, 8080, family, uid=APP, mark=0x112)
    attempt("bound to the interface", POD, peer, 8080, family, device="pod0")
    attempt("bound to the interface, with a forged mark", POD, peer, 8080, family, device="pod0", mark=MARK)
    attempt("the daemon's uid, bound to the interface", POD, peer, 8080, family, uid=DAEMON, device="pod0")
    attempt("a peer's connection", PEER, pod, 9090, family)
    attempt("a peer's connection where nobody listens", PEER, pod, 9999, family)
    attempt("a tunnel", PEER, pod, 15008, family)
    attempt("loopback", POD, address["loopback"], 9090, family)
    attempt("the own address", POD, pod, 9090, family)
    attempt("the daemon with the peer's address", POD, pod, 9090, family, uid=DAEMON, mark=MARK, source=peer)
    attempt("the daemon with a far address", POD, pod, 9090, family, uid=DAEMON, mark=MARK, source=far)
    at.pop("outbound").close()
    at["every address"] = listen(POD, 8080, family)
    attempt("without a daemon", POD, peer, 8080, family)
    at.pop("inbound").close()
    attempt("a peer's connection without a daemon", PEER, pod, 9090, family)
    at.pop("tunnel").close()
    attempt("a tunnel without a daemon", PEER, pod, 15008, family)
    for listener in at.values():
        listener.close()
    return found


def udp(family, sender, receiver):
    to = ADDRESS[family]["pod" if receiver == POD else "peer"]
    with inside(receiver):
        server = make(family, socket.SOCK_DGRAM)
        server.bind((to, 5353))
    with inside(sender):
        client = make(family, socket.SOCK_DGRAM)
    client.sendto(b"question", (to, 5353))
    heard, source = server.recvfrom(100)
    server.sendto(b"answer", source)
    answer, _ = client.recvfrom(100)
    server.close()
    client.close()
    return heard == b"question" and answer == b"answer"


def icmp(family):
    with inside(POD, 0):
        raw = socket.socket(
            socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW,
            socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)
    raw.settimeout(3)
    echo, reply = (8, 0) if family == 4 else (128, 129)
    body = struct.pack("!BBHHH", echo, 0, 0, 0x7761, 1) + b"warren"
    if family == 4:
        total = sum(struct.unpack("!%dH" % (len(body) // 2), body))
        total = (total & 0xFFFF) + (total >> 16)
        body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    raw.sendto(body, (ADDRESS[family]["peer"], 0))
    while True:
        packet, _ = raw.recvfrom(200)
        message = packet[20:] if family == 4 else packet
        if message[0] == reply and message[8:14] == b"warren":
            raw.close()
            return True


def straddle():
    listener = listen(PEER, 8080, 4)
    client = connect(POD, ADDRESS[4]["peer"], 8080, 4)
    server, _ = listener.accept()
    assert conversation(client, server)
    print("open", flush=True)
    sys.stdin.readline()
    with inside(POD, DAEMON):
        pass
    try:
        client.sendall(b"in the clear")
        client.recv(10)
        print("answered")
    except ConnectionResetError:
        server.settimeout(0)
        try:
            print("reset, and the peer got", server.recv(100))
        except BlockingIOError:
            print("reset")


def families():
    """How a connection fails that no daemon takes."""
    for family in (4, 6):
        error = connect(POD, ADDRESS[family]["far"], 8080, family)
        name = type(error).__name__
        print(f"ipv{family}:", name if name != "OSError" else f"OSError {errno.errorcode[error.errno]}")


if sys.argv[4] == "straddle":
    straddle()
elif sys.argv[4] == "families":
    families()
else:
    result = {}
    for family in (4, 6):
        result[f"ipv{family}"] = tcp(family)
        result[f"ipv{family}"]["udp out"] = {"talks": udp(family, POD, PEER)}
        result[f"ipv{family}"]["udp in"] = {"talks": udp(family, PEER, POD)}
        result[f"ipv{family}"]["icmp"] = {"talks": icmp(family)}
    print(json.dumps(result))
