"""Who may connect: AuthorizationPolicy and PeerAuthentication, and what a change does to connections that are open."""

import pytest
from warrenlab import Lab, receive, wait

AUTHORIZATION = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: {name}
  namespace: shop
spec:
  selector:
    matchLabels:
      app: server
  action: {action}
  rules:
  - from:
    - source:
        principals: [{principals}]
    to:
    - operation:
        ports: ["8080", "8085"]
"""
PEERS = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: server
  namespace: shop
spec:
  selector:
    matchLabels:
      app: server
  mtls:
    mode: {mode}
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.namespace("legacy", mode=None)
        lab.alice = lab.pod("shop/alice", node="a")
        lab.bob = lab.pod("shop/bob", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.neighbour = lab.pod("shop/neighbour", node="b")
        lab.plain = lab.pod("legacy/plain", node="a")
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 8080})
        lab.server.serve()
        yield lab.start()


@pytest.fixture(autouse=True)
def no_policy_left(lab):
    yield
    for name in ("allow", "deny", "peers"):
        lab.withdraw(name)
    wait(lambda: not lab.status()["policies"], "no policy is left")
    for pod in (lab.alice, lab.bob, lab.plain):
        wait(lambda: pod.echoes(lab.server.ip, 8080), f"{pod.name} may connect again")


def authorize(lab, name, action, *pods):
    principals = ", ".join(f'"{pod.identity}"' for pod in pods)
    lab.policy(name, AUTHORIZATION.format(name=name, action=action, principals=principals))


def becomes_refused(pod, to, port=8080):
    wait(lambda: pod.is_refused(to, port), f"{pod.name} is refused")


def stays_allowed(pod, to, port=8080):
    assert all(pod.echoes(to, port) for _ in range(5)), pod.name


def test_an_allow_policy_admits_whom_it_names(lab):
    authorize(lab, "allow", "ALLOW", lab.alice)
    becomes_refused(lab.bob, lab.server.ip)
    becomes_refused(lab.bob, lab.server.ip6)
    becomes_refused(lab.bob, lab.vip, 80)
    becomes_refused(lab.neighbour, lab.server.ip)
    becomes_refused(lab.plain, lab.server.ip)
    stays_allowed(lab.alice, lab.server.ip)
    stays_allowed(lab.alice, lab.server.ip6)
    stays_allowed(lab.alice, lab.vip, 80)
    # A port that no rule names is nobody's.
    assert lab.alice.is_refused(lab.server.ip, 8083)


def test_a_deny_policy_refuses_whom_it_names(lab):
    authorize(lab, "deny", "DENY", lab.bob)
    becomes_refused(lab.bob, lab.server.ip)
    for pod in (lab.alice, lab.neighbour, lab.plain):
        stays_allowed(pod, lab.server.ip)


def test_deny_wins_over_allow(lab):
    authorize(lab, "allow", "ALLOW", lab.alice, lab.bob)
    becomes_refused(lab.plain, lab.server.ip)
    stays_allowed(lab.bob, lab.server.ip)
    authorize(lab, "deny", "DENY", lab.bob)
    becomes_refused(lab.bob, lab.server.ip)
    stays_allowed(lab.alice, lab.server.ip)


def test_strict_refuses_plain_connections_and_permissive_takes_them(lab):
    lab.policy("peers", PEERS.format(mode="STRICT"))
    becomes_refused(lab.plain, lab.server.ip)
    becomes_refused(lab.plain, lab.server.ip6)
    for pod in (lab.alice, lab.neighbour):
        stays_allowed(pod, lab.server.ip)
    lab.policy("peers", PEERS.format(mode="PERMISSIVE"))
    wait(lambda: lab.plain.echoes(lab.server.ip, 8080), "plain connections are taken again")


@pytest.mark.parametrize("who", ["bob", "neighbour"])
def test_a_deny_ends_connections_that_are_open(lab, who):
    pod = getattr(lab, who)
    with pod.connect(lab.server.ip, 8080) as theirs, lab.alice.connect(lab.server.ip, 8080) as other:
        for connection in (theirs, other):
            connection.sendall(b"before")
            assert receive(connection, 6) == b"before"
        authorize(lab, "deny", "DENY", pod)
        theirs.settimeout(10)
        try:
            assert theirs.recv(1) == b""
        except ConnectionResetError:
            pass
        # The others do not notice.
        other.sendall(b"after")
        assert receive(other, 5) == b"after"


def test_strict_ends_plain_connections_that_are_open(lab):
    with lab.plain.connect(lab.server.ip, 8080) as connection:
        connection.sendall(b"before")
        assert receive(connection, 6) == b"before"
        lab.policy("peers", PEERS.format(mode="STRICT"))
        connection.settimeout(10)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass


def test_removing_a_policy_lets_connections_pass_again(lab):
    authorize(lab, "deny", "DENY", lab.bob)
    becomes_refused(lab.bob, lab.server.ip)
    lab.withdraw("deny")
    wait(lambda: lab.bob.echoes(lab.server.ip, 8080), "bob may connect again")


def test_a_broken_policy_changes_nothing_and_is_reported(lab):
    authorize(lab, "deny", "DENY", lab.bob)
    becomes_refused(lab.bob, lab.server.ip)
    lab.policy("deny", AUTHORIZATION.format(name="deny", action="PERHAPS", principals='"x"'))
    wait(lambda: any("PERHAPS" in error or "action" in error for error in lab.status()["configuration"]["errors"]),
         "the error is reported")
    assert lab.bob.is_refused(lab.server.ip, 8080)
    stays_allowed(lab.alice, lab.server.ip)


def test_a_refusal_is_in_the_access_log_with_its_policy(lab):
    authorize(lab, "deny", "DENY", lab.bob)
    becomes_refused(lab.bob, lab.server.ip)
    # That one may have been open when the change came, and was cut; this one is refused.
    assert lab.bob.is_refused(lab.server.ip, 8080)
    line = wait(
        lambda: next((line for line in lab.nodes["b"].access_log().splitlines()
                      if "shop/deny" in line and lab.bob.identity in line), None), "a line of the access log")
    assert lab.server.ip in line
