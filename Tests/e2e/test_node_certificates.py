"""A node's certificates, from a CA that is not ours: what is asked, when, and what happens when the answer is no answer."""

import contextlib
import threading
import time

import grpc
import meshca
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from foreignlab import ForeignLab
from warrenlab import receive, wait
from wireresources import LOCAL_POD, uid


@pytest.fixture(scope="module")
def lab():
    with ForeignLab() as lab:
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b")
        lab.server.serve()
        lab.enroll(lab.client, lab.server)
        yield lab.start()


@pytest.fixture
def pods(lab):
    """Makes pods that leave with the test."""
    made = []

    def make(name, node="a", serves=False, **options):
        pod = lab.pod(f"shop/{name}", node, **options)
        made.append(pod)
        if serves:
            pod.serve()
        lab.enroll(pod)
        return pod

    yield make
    for pod in made:
        lab.foreign.leave(pod)
    wait(lambda: all(not lab.certificate("a", pod) and not lab.certificate("b", pod) for pod in made),
         "their certificates are forgotten")


def captured(lab, *pods):
    wait(lambda: all(lab.foreign.is_captured(pod) for pod in pods), "they are captured")


def issued(lab, pod):
    return [asked for asked in lab.foreign.ca.of(pod.identity) if asked.status is grpc.StatusCode.OK]


def uris_of(thing):
    san = thing.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(san) == len(san.get_values_for_type(x509.UniformResourceIdentifier))
    return san.get_values_for_type(x509.UniformResourceIdentifier)


@contextlib.contextmanager
def steady_traffic(client, to, port=8080):
    """Opens one connection after another and uses one all the while; the list of what went wrong."""
    failures, count, ended = [], [0], threading.Event()

    def run():
        with client.connect(to, port) as lasting:
            while not ended.is_set():
                try:
                    lasting.sendall(b"lasting")
                    assert receive(lasting, 7) == b"lasting"
                    assert client.echoes(to, port)
                    count[0] += 1
                except (OSError, AssertionError) as error:
                    failures.append((time.monotonic(), repr(error)))
                ended.wait(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield failures
    finally:
        ended.set()
        thread.join(20)
    assert count[0] > 20


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_a_request_names_one_identity_and_nothing_else(lab):
    for pod in (lab.client, lab.server):
        asked = lab.foreign.ca.of(pod.identity)[0]
        assert asked.metadata == {"ImpersonatedIdentity": f"spiffe://{pod.identity}"}
        assert isinstance(asked.csr.public_key().curve, ec.SECP256R1)
        assert asked.csr.signature_hash_algorithm.name == "sha256"
        assert len(asked.csr.subject) == 0
        assert uris_of(asked.csr) == [f"spiffe://{pod.identity}"]
        assert asked.message.validity_duration == 86_400


def test_certificates_are_there_before_anybody_needs_them(lab, pods):
    pod = pods("early")
    wait(lambda: lab.certificate("a", pod).get("state") == "Available", "the certificate")
    assert not lab.refusals("a", "early")


def test_pods_of_one_account_share_a_certificate(lab, pods):
    first, second = pods("one", account="shared"), pods("two", account="shared")
    captured(lab, first, second)
    wait(lambda: lab.certificate("a", first).get("state") == "Available", "the certificate")
    assert len(lab.foreign.ca.of(first.identity)) == 1
    for pod in (first, second):
        wait(lambda: pod.echoes(lab.server.ip, 8080), f"{pod.name} works")


def test_at_most_eight_requests_are_under_way(lab, pods):
    lab.foreign.ca.peak = 0
    with lab.foreign.ca.held():
        made = [pods(f"many-{number}") for number in range(12)]
        captured(lab, *made)
        wait(lambda: lab.foreign.ca.in_flight == 8, "eight requests")
    wait(lambda: all(lab.certificate("a", pod).get("state") == "Available" for pod in made), "all have one")
    assert lab.foreign.ca.peak == 8
    assert all(len(lab.foreign.ca.of(pod.identity)) == 1 for pod in made)


def test_whoever_waits_goes_before_whoever_will(lab, pods):
    with lab.foreign.ca.held():
        made = [pods(f"queue-{number:02}") for number in range(12)]
        captured(lab, *made)
        wait(lambda: lab.foreign.ca.in_flight == 8, "eight requests")
        waiting = next(pod for pod in reversed(made) if not lab.foreign.ca.of(pod.identity))
        connection = waiting.connect(lab.server.ip, 8080, timeout=10)
        connection.sendall(b"first")
    with connection:
        assert receive(connection, 5) == b"first"


# --- renewal ---------------------------------------------------------------------------------------------------------


def test_certificates_are_renewed_at_half_of_their_life_while_traffic_flows(lab, pods):
    life = 12
    for name in ("short-client", "short-server"):
        lab.foreign.ca.lives[f"spiffe://cluster.local/ns/shop/sa/{name}"] = life
    client, server = pods("short-client"), pods("short-server", "b", serves=True)
    captured(lab, client, server)
    wait(lambda: client.echoes(server.ip, 8080), "they work")
    with steady_traffic(client, server.ip) as failures:
        wait(lambda: len(issued(lab, client)) >= 4 and len(issued(lab, server)) >= 4, "four certificates", timeout=60)
    assert not failures
    for pod in (client, server):
        asked = issued(lab, pod)
        for before, after in zip(asked, asked[1:]):
            # Half of it, give or take the spread and the whole seconds of a certificate.
            assert 0.35 * life < after.at - before.at < 0.7 * life
        keys = [one.csr.public_key().public_numbers() for one in asked]
        assert len({(key.x, key.y) for key in keys}) == len(keys)


def test_an_old_certificate_serves_while_the_ca_is_down_and_not_longer(lab, pods):
    life = 14
    lab.foreign.ca.lives["spiffe://cluster.local/ns/shop/sa/old"] = life
    pod = pods("old")
    captured(lab, pod)
    wait(lambda: pod.echoes(lab.server.ip, 8080), "it works")
    asked = issued(lab, pod)[-1]
    lab.foreign.ca.refusal = lambda asked: (grpc.StatusCode.UNAVAILABLE, "the CA is down")
    try:
        wait(lambda: len(lab.foreign.ca.of(pod.identity)) >= 2, "it asks for another", timeout=life)
        while time.monotonic() < asked.answered_at + life - 2:
            assert pod.echoes(lab.server.ip, 8080)
        wait(lambda: pod.is_refused(lab.server.ip, 8080), "it has expired")
        wait(lambda: lab.refusals("a", "identity error", "the CA is down"), "the reason in the log")
        # It asks again all the while, but not without rest.
        assert len(lab.foreign.ca.of(pod.identity)) < 10
        # Nobody else is hurt.
        assert lab.client.echoes(lab.server.ip, 8080)
    finally:
        lab.foreign.ca.refusal = lambda asked: None
    wait(lambda: pod.echoes(lab.server.ip, 8080), "it works again", timeout=40)


def test_roots_are_changed_under_traffic(lab, pods):
    old, new = lab.foreign.ca.issuer, meshca.MeshCA("the next")
    for name in ("turn-client", "turn-server"):
        lab.foreign.ca.lives[f"spiffe://cluster.local/ns/shop/sa/{name}"] = 8
    client, server = pods("turn-client"), pods("turn-server", "b", serves=True)
    captured(lab, client, server)
    wait(lambda: client.echoes(server.ip, 8080), "they work")

    def renewed():
        counts = [len(issued(lab, pod)) for pod in (client, server)]
        wait(lambda: all(len(issued(lab, pod)) > count for pod, count in zip((client, server), counts)), "new ones")

    try:
        with steady_traffic(client, server.ip) as failures:
            # Trust both, then issue by the new one, then forget the old one.
            for issuer, roots in ((old, [old.root, new.root]), (new, [old.root, new.root]), (new, [new.root])):
                lab.foreign.issue_by(issuer, roots)
                renewed()
            renewed()
        assert not failures
        dump = lab.dump("a")
        chain = next(one for one in dump["certificates"] if one["identity"].endswith(client.identity))
        assert len(chain["rootCerts"]) == 1
    finally:
        lab.foreign.issue_by(old, [old.root])


def test_an_identity_that_nobody_has_any_more_is_not_renewed(lab, pods):
    lab.foreign.ca.lives["spiffe://cluster.local/ns/shop/sa/brief"] = 4
    pod = pods("brief")
    captured(lab, pod)
    wait(lambda: len(issued(lab, pod)) >= 2, "it is renewed", timeout=10)
    lab.foreign.remove(LOCAL_POD, uid(pod))
    wait(lambda: lab.foreign.reports[uid(pod)][0] == "STATE_REMOVED", "it has left")
    wait(lambda: not lab.certificate("a", pod), "the certificate is forgotten")
    count = len(lab.foreign.ca.of(pod.identity))
    with pytest.raises(AssertionError):
        wait(lambda: len(lab.foreign.ca.of(pod.identity)) > count, "a renewal", timeout=4)


# --- no certificate --------------------------------------------------------------------------------------------------


def test_a_refused_identity_fails_its_connections_at_once_with_the_reason(lab, pods):
    lab.foreign.ca.refusal = lambda asked: (
        (grpc.StatusCode.UNAUTHENTICATED, "authentication failure") if "outlaw" in (asked.identity or "") else None)
    try:
        pod = pods("outlaw", serves=True)
        captured(lab, pod)
        wait(lambda: lab.certificate("a", pod).get("state", "").startswith("Unavailable"), "the refusal")
        started = time.monotonic()
        assert pod.is_refused(lab.server.ip, 8080)
        assert time.monotonic() - started < 2
        wait(lambda: lab.refusals("a", "identity error", "authentication failure", f"src.addr={pod.ip}"), "the log line")
        # Nor can it be reached: it cannot prove who it is.
        assert lab.client.is_refused(pod.ip, 8080)
        # Others do not wait behind it.
        assert lab.client.echoes(lab.server.ip, 8080)
    finally:
        lab.foreign.ca.refusal = lambda asked: None
    wait(lambda: pod.echoes(lab.server.ip, 8080), "a retry succeeds", timeout=40)
    wait(lambda: lab.client.echoes(pod.ip, 8080), "it can be reached", timeout=40)


def test_connections_wait_for_the_first_certificate(lab, pods):
    with lab.foreign.ca.held():
        pod = pods("patient")
        captured(lab, pod)
        connection = pod.connect(lab.server.ip, 8080, timeout=10)
        connection.sendall(b"wait")
        wait(lambda: lab.foreign.ca.of(pod.identity), "the request")
    with connection:
        assert receive(connection, 4) == b"wait"


def forged(lab, asked, *uris, key=None, **options):
    certificate = lab.foreign.ca.sign(key or asked.csr.public_key(), *uris, **options)
    return meshca.pem(certificate).decode()


WRONG = {
    "nothing": lambda lab, asked, chain: [],
    "no root": lambda lab, asked, chain: chain[:1],
    "an empty root": lambda lab, asked, chain: [*chain[:2], ""],
    "no certificates": lambda lab, asked, chain: ["what", "is", "this"],
    "half of a certificate": lambda lab, asked, chain: [chain[0][:200], *chain[1:]],
    "another identity": lambda lab, asked, chain: [forged(lab, asked, meshca.spiffe("shop", "client")), *chain[1:]],
    "two identities": lambda lab, asked, chain: [
        forged(lab, asked, asked.identity, meshca.spiffe("shop", "client")), *chain[1:]],
    "no identity": lambda lab, asked, chain: [forged(lab, asked), *chain[1:]],
    "another key": lambda lab, asked, chain: [
        forged(lab, asked, asked.identity, key=ec.generate_private_key(ec.SECP256R1()).public_key()), *chain[1:]],
    "one that has expired": lambda lab, asked, chain: [
        forged(lab, asked, asked.identity, begins=-100, life=50), *chain[1:]],
}


@pytest.mark.parametrize("flaw", list(WRONG))
def test_an_answer_is_not_taken_with(lab, pods, flaw):
    name = "wrong-" + flaw.replace(" ", "-")
    lab.foreign.ca.answer = lambda asked, chain: WRONG[flaw](lab, asked, chain) if name in (asked.identity or "") else chain
    try:
        pod = pods(name)
        captured(lab, pod)
        wait(lambda: lab.foreign.ca.of(pod.identity) and lab.foreign.ca.of(pod.identity)[0].answered_at, "the answer")
        assert pod.is_refused(lab.server.ip, 8080, timeout=15)
        wait(lambda: lab.refusals("a", "identity error", f"src.addr={pod.ip}"), "the log line")
        assert lab.certificate("a", pod)["state"] != "Available"
    finally:
        lab.foreign.ca.answer = lambda asked, chain: chain
    wait(lambda: pod.echoes(lab.server.ip, 8080), "the next answer is taken", timeout=40)


@pytest.mark.parametrize("status", ["CANCELLED", "INVALID_ARGUMENT", "INTERNAL", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"])
def test_a_ca_that_fails_once_is_asked_again(lab, pods, status):
    name, refused = f"again-{status.lower().replace('_', '-')}", []

    def refusal(asked):
        if name in (asked.identity or "") and not refused:
            refused.append(asked)
            return getattr(grpc.StatusCode, status), "not this time"
        return None

    lab.foreign.ca.refusal = refusal
    try:
        pod = pods(name)
        wait(lambda: lab.certificate("a", pod).get("state") == "Available", "the certificate", timeout=30)
        first, second = lab.foreign.ca.of(pod.identity)
        assert first is refused[0] and 0.5 < second.at - first.at < 3
    finally:
        lab.foreign.ca.refusal = lambda asked: None
