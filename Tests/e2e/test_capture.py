"""What is captured, what is not, and what the wire then shows."""

import contextlib
import signal
import socket
import struct
import time

import pytest
import warrenlab
from warrenlab import Lab, nonce, wait

TUNNEL = 15008
# The routing rule that leads the pod's packets to the daemon, or the answers among them.
RULE = {"untracked": "iif lo ipproto tcp lookup 100", "tracked": "fwmark 0x111/0xfff lookup 100"}

SETTINGS = ("net.ipv4.conf.all.src_valid_mark", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect")


# The shell of a daemon that finds /proc/sys read-only, as in most containers.
BARRED = ("unshare", "--mount", "--propagation", "slave", "sh", "-c",
          'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"', "sh")


def resets_strays(pod, source, to, port):
    """Whether a packet from the pod, of a connection that nobody there has, is answered by a reset."""
    with pod.inside():
        raw = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    own, number = 4567, 0x01020304
    with raw:
        raw.bind((source, 0))
        raw.settimeout(10)
        header = struct.pack("!HHIIBBHHH", own, port, number, number, 5 << 4, 0x10, 1024, 0, 0)  # ACK
        ends = b"".join(socket.inet_pton(raw.family, address) for address in (source, to))
        total = sum(struct.unpack(f"!{(len(ends) + 24) // 2}H", ends + struct.pack("!HH", socket.IPPROTO_TCP, 20) + header))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        raw.sendto(header[:16] + struct.pack("!H", total ^ 0xffff) + header[18:], (to, 0))
        with contextlib.suppress(TimeoutError):
            while True:
                answer = raw.recv(100)[0 if ":" in to else 20:]
                if answer[:4] == struct.pack("!HH", port, own):
                    return bool(answer[13] & 4)
    return False


@pytest.fixture(scope="module", params=["auto", "tracked"])
def lab(request):
    with Lab() as lab:
        lab.method = {"auto": "untracked"}.get(request.param, request.param)
        for node in lab.nodes.values():
            node.daemon.environment = {"WARREN_CAPTURE": request.param}
        lab.namespace("shop")
        lab.namespace("legacy", mode=None)
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.neighbour = lab.pod("shop/neighbour", node="a")
        lab.opted_out = lab.pod("shop/opted-out", node="b", labels={"istio.io/dataplane-mode": "none"})
        lab.plain = lab.pod("legacy/plain", node="a")
        lab.vip, lab.vip6 = lab.service("shop/server", {"app": "server"}, {80: 8080, 9080: 9080})
        for pod in (lab.server, lab.neighbour, lab.opted_out, lab.plain):
            pod.serve()
        yield lab.start()


def test_enrolled_pods_are_captured_and_no_others(lab):
    for pod in (lab.client, lab.server, lab.neighbour):
        assert pod.has_rules() and pod.captured(), pod.name
    for pod in (lab.opted_out, lab.plain):
        assert not pod.has_rules() and pod.run("ip", "rule").count("fwmark") == 0, pod.name
    assert "warren" not in warrenlab.run("nft", "list", "ruleset")
    for node in lab.nodes.values():
        assert "warren" not in node.netns.run("nft", "list", "ruleset")


def test_the_status_says_how_pods_are_captured(lab):
    workloads = lab.nodes["a"].status()["workloads"]
    assert {one["name"]: one["capture"] for one in workloads} == {"client": lab.method, "neighbour": lab.method}
    page = lab.nodes["a"].netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
    assert f'warren_capture_pods{{method="{lab.method}"}} 2' in page


def test_only_redirection_makes_the_kernel_track_connections(lab):
    assert lab.client.echoes(lab.server.ip, 8080) and lab.client.echoes(lab.neighbour.ip6, 8080)
    for pod in (lab.client, lab.server, lab.neighbour):
        count = int(pod.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
        assert (count > 0) == (lab.method == "tracked"), pod.name


def test_a_pods_own_tracking_rules_see_ordinary_connections(lab):
    lab.server.run("nft", """
        add table inet own
        add chain inet own in { type filter hook input priority 0; policy drop; }
        add rule inet own in ct state established,related accept
        add rule inet own in meta l4proto { icmp, icmpv6 } accept
        add rule inet own in tcp dport { 8080, 15001, 15006, 15008 } ct state new accept
        add chain inet own out { type filter hook output priority 0; policy accept; }
        add rule inet own out ct state invalid drop""")
    try:
        for address in (lab.server.ip, lab.server.ip6):
            assert lab.client.echoes(address, 8080) and lab.plain.echoes(address, 8080), address
        assert lab.server.echoes(lab.neighbour.ip, 8080)
    finally:
        lab.server.run("nft", "delete table inet own")


@pytest.mark.parametrize("address", ["ip", "ip6"])
def test_a_socket_bound_to_the_interface_does_not_leave(lab, address):
    secret = nonce()
    with lab.capture() as capture:
        with lab.client.inside():
            connection = socket.socket(socket.AF_INET6 if address == "ip6" else socket.AF_INET)
        interface = next(line.split()[1].split("@")[0].rstrip(":") for line in lab.client.run("ip", "-o", "link").splitlines()
                         if " lo:" not in line)
        with connection, contextlib.suppress(OSError):
            connection.settimeout(2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            connection.connect((getattr(lab.server, address), 8080))
            connection.sendall(secret)
            connection.recv(100)
    assert not capture.contains(secret)


@pytest.mark.parametrize("address", ["ip", "ip6"])
def test_traffic_between_nodes_is_mutual_tls(lab, address):
    secret = nonce()
    with lab.capture() as capture:
        assert lab.client.echoes(getattr(lab.server, address), 8080, secret)
    assert not capture.contains(secret)
    between = {
        flow: stream for flow, stream in capture.streams().items()
        if {flow[0], flow[2]} == {getattr(lab.client, address), getattr(lab.server, address)}}
    assert between and all(TUNNEL in (flow[1], flow[3]) for flow in between), between.keys()
    assert all(warrenlab.tls_records(stream) for stream in between.values() if stream)


@pytest.mark.parametrize("address", ["vip", "vip6"])
def test_services_are_reached_by_their_address(lab, address):
    secret = nonce()
    with lab.capture() as capture:
        assert lab.client.echoes(getattr(lab, address), 80, secret)
    assert not capture.contains(secret)


def test_the_server_sees_the_clients_address(lab):
    for to, seen in ((lab.server.ip, lab.client.ip), (f"[{lab.server.ip6}]", lab.client.ip6), (lab.vip, lab.client.ip)):
        assert lab.client.run("curl", "-s", "--max-time", "5", f"http://{to}:9080/") == seen


def test_pods_of_one_node_reach_each_other(lab):
    for address in (lab.neighbour.ip, lab.neighbour.ip6):
        assert lab.client.echoes(address, 8080)
    assert lab.client.run("curl", "-s", f"http://{lab.neighbour.ip}:9080/") == lab.client.ip


def test_pods_reach_themselves(lab):
    for address in (lab.server.ip, lab.server.ip6, "127.0.0.1", "::1", lab.vip):
        assert lab.server.echoes(address, 80 if address == lab.vip else 8080), address


def test_what_is_not_in_the_mesh_is_reached_and_reaches(lab):
    for address in (lab.opted_out.ip, lab.opted_out.ip6, lab.plain.ip):
        assert lab.client.echoes(address, 8080), address
    for address in (lab.server.ip, lab.server.ip6, lab.neighbour.ip):
        assert lab.plain.echoes(address, 8080), address
    assert lab.plain.run("curl", "-s", f"http://{lab.server.ip}:9080/") == lab.plain.ip


def test_addresses_outside_pass_through(lab):
    outsider = lab.outsider("internet")
    server = lab.program("internet-serve", outsider, ["python3", warrenlab.TRAFFIC, "serve"]).start()
    server.wait_for("ready")
    for address in outsider.addresses:
        assert lab.client.echoes(address, 8080)
    assert lab.client.run("curl", "-s", f"http://{outsider.addresses[0]}:9080/") == lab.client.ip
    with pytest.raises(OSError):
        lab.client.connect(outsider.addresses[0], 4444).recv(1)


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "ip"), (socket.AF_INET6, "ip6")])
def test_datagrams_and_pings_are_not_touched(lab, family, address):
    to = getattr(lab.server, address)
    with lab.client.inside():
        client = socket.socket(family, socket.SOCK_DGRAM)
    with client:
        client.settimeout(5)
        client.sendto(b"datagram", (to, 8087))
        assert client.recvfrom(100)[0] == b"datagram"
    # An ICMP answer to a datagram for a port where nobody is: as direct as ICMP gets without a ping program.
    with lab.client.inside():
        client = socket.socket(family, socket.SOCK_DGRAM)
    with client:
        client.settimeout(5)
        client.connect((to, 9))
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_an_echo_request_is_answered(lab, family):
    version, protocol, request, answer = {
        "ip": (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0), "ip6": (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)}[family]
    secret = nonce()
    # IPv6's checksum is the kernel's to fill in, IPv4's is ours.
    packet = struct.pack("!BBHHH", request, 0, 0, 4711, 1) + secret
    packet = packet[:2] + struct.pack("!H", internet_checksum(packet)) + packet[4:]
    with lab.client.inside():
        client = socket.socket(version, socket.SOCK_RAW, protocol)
    with client:
        client.settimeout(5)
        client.sendto(packet, (getattr(lab.server, family), 0))
        while True:
            received = client.recv(2_000)
            if family == "ip":
                received = received[(received[0] & 15) * 4:]
            if received[0] == answer and received.endswith(secret):
                break


def internet_checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def test_pods_come_and_go(lab):
    late = lab.pod("shop/late", node="b")
    late.serve()
    wait(late.captured, "a new pod is captured")
    secret = nonce()
    with lab.capture() as capture:
        assert lab.client.echoes(late.ip, 8080, secret)
    assert not capture.contains(secret)
    # Out of the mesh by a label on the pod itself.
    late.labels["istio.io/dataplane-mode"] = "none"
    late.write()
    wait(lambda: not late.has_rules(), "the rules of a pod that left are removed")
    assert late.run("ip", "rule").count("fwmark") == 0
    wait(lambda: lab.client.echoes(late.ip, 8080), "a pod that left is reached in the clear")
    # And away with it.
    lab.remove(late.file)
    wait(lambda: not any(one["name"] == "late" for one in lab.status()["workloads"]), "the pod is forgotten")


def test_rules_that_somebody_flushes_come_back(lab):
    for damage in (("nft", "flush", "ruleset"), ("ip", "rule", "del", "pref", "32764")):
        lab.client.run(*damage)
        wait(lambda: lab.client.has_rules() and RULE[lab.method] in lab.client.run("ip", "rule"),
             f"the rules are back after {' '.join(damage)}")
    assert lab.client.echoes(lab.server.ip, 8080)


def test_removing_the_capture_leaves_nothing_in_a_pod(lab):
    node = lab.nodes["a"]
    assert warrenlab.ask(node.socket, "/quitquitquit?capture=remove", "POST")[0] == 200
    assert node.daemon.process.wait(15) == 0
    for pod in (lab.client, lab.neighbour):
        assert pod.run("nft", "list", "ruleset").strip() == ""
        rules = pod.run("ip", "rule") + pod.run("ip", "-6", "rule")
        assert "fwmark" not in rules and "ipproto" not in rules
        assert "local default" not in pod.run("ip", "route", "show", "table", "all")
        assert set(pod.run("sysctl", "-n", *SETTINGS).split()) == {"0"}
    node.daemon.start()
    lab.settle()
    wait(lambda: lab.client.has_rules() and lab.client.echoes(lab.server.ip, 8080), "captured again")


def strays(lab, pod):
    for port in (8080, TUNNEL, 9):
        assert resets_strays(lab.plain, lab.plain.ip, pod.ip, port), port
        assert resets_strays(lab.plain, lab.plain.ip6, pod.ip6, port), port


def test_who_goes_on_with_a_connection_that_is_gone_learns_it(lab):
    strays(lab, lab.server)


def test_where_settings_cannot_be_written_connections_are_tracked(lab):
    node = lab.nodes["a"]
    command, environment = node.daemon.command, node.daemon.environment
    assert node.daemon.stop(signal.SIGTERM) == 0
    node.daemon.command, node.daemon.environment = [*BARRED, *command], {"WARREN_CAPTURE": "auto"}
    try:
        node.daemon.start()
        lab.settle()
        pod = lab.pod("shop/barred", node="a")
        pod.serve()
        wait(pod.captured, "a new pod is captured")
        assert [one["capture"] for one in node.status()["workloads"] if one["name"] == "barred"] == ["tracked"]
        assert "net.ipv4.conf.all.src_valid_mark cannot be written" in node.daemon.output()
        for there, here in ((lab.server.ip, pod.ip), (lab.server.ip6, pod.ip6)):
            assert pod.echoes(there, 8080) and lab.server.echoes(here, 8080)
        lab.remove(pod.file)
        wait(lambda: not any(one["name"] == "barred" for one in lab.status()["workloads"]), "the pod is forgotten")
    finally:
        node.daemon.stop()
        node.daemon.command, node.daemon.environment = command, environment
        node.daemon.start()
        lab.settle()


def test_a_daemon_with_the_other_method_takes_over(lab):
    node = lab.nodes["a"]
    own = node.daemon.environment
    choices = [("tracked", "tracked"), ("auto", "untracked")]
    if lab.method == "tracked":
        choices.reverse()
    try:
        for choice, method in choices:
            assert node.daemon.stop(signal.SIGTERM) == 0
            node.daemon.environment = {"WARREN_CAPTURE": choice}
            node.daemon.start()
            lab.settle()
            wait(lambda: {one.get("capture") for one in node.status()["workloads"]} == {method}, f"capture is {method}")
            secret = nonce()
            with lab.capture() as capture:
                for there, here in ((lab.server.ip, lab.neighbour.ip), (lab.server.ip6, lab.neighbour.ip6)):
                    wait(lambda: lab.client.echoes(there, 8080, secret), f"from the pod, {method}")
                    wait(lambda: lab.server.echoes(here, 8080, secret), f"to the pod, {method}")
                    assert lab.plain.echoes(here, 8080), method
            assert not capture.contains(secret)
            # Nothing of the method before is left.
            rules, [other] = lab.client.run("ip", "rule"), set(RULE) - {method}
            assert RULE[method] in rules and RULE[other] not in rules
            assert (set(lab.client.run("sysctl", "-n", *SETTINGS).split()) == {"0"}) == (method == "tracked")
    finally:
        node.daemon.environment = own
        node.daemon.restart()
        lab.settle()


def test_a_stopped_daemon_leaves_its_rules(lab):
    node = lab.nodes["a"]
    assert node.daemon.stop(signal.SIGTERM) == 0
    assert lab.client.has_rules()
    assert lab.client.is_refused(lab.server.ip, 8080)
    # Nor does an application take what was meant for another host.
    with lab.client.inside():
        greedy = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
    with greedy:
        assert lab.client.is_refused(lab.server.ip, 8080) and lab.client.is_refused(lab.server.ip6, 8080)
    # At once, also for who comes from elsewhere.
    for port in (8080, TUNNEL):
        for address in (lab.neighbour.ip, lab.neighbour.ip6):
            begun = time.monotonic()
            assert lab.plain.is_refused(address, port, timeout=30) and time.monotonic() - begun < 10, (address, port)
    strays(lab, lab.neighbour)
    node.daemon.start()
    lab.settle()
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "works again")
