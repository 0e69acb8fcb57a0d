"""Every attribute of an AuthorizationPolicy, from the manifest to the connection: whom it hits and whom it does not.

      alice  shop/alice on node a: a tunnel          carol  bank/carol on the server's node: no tunnel, same rules
      plain  legacy/plain on node a: no identity     server shop/server on node b: 8080 echo, 9080 HTTP
"""

import itertools

import pytest
from warrenlab import Lab, ask, wait

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: server}}}}
  action: {action}
  rules:
  - {rule}
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        for namespace in ("shop", "bank"):
            lab.namespace(namespace)
        lab.namespace("legacy", mode=None)
        lab.alice = lab.pod("shop/alice", node="a")
        lab.carol = lab.pod("bank/carol", node="b")
        lab.plain = lab.pod("legacy/plain", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.server.serve()
        yield lab.start()


def source(**fields):
    return lambda lab: "from: [{source: {%s}}]" % listed(lab, fields)


def operation(**fields):
    return lambda lab: "to: [{operation: {%s}}]" % listed(lab, fields)


def when(key, values="values", *texts):
    return lambda lab: "when: [{key: %s, %s}]" % (key, listed(lab, {values: texts}))


def listed(lab, fields):
    return ", ".join('%s: [%s]' % (name, ", ".join(f'"{text.format(lab=lab)}"' for text in texts))
                     for name, texts in fields.items())


ALICE, CAROL, PLAIN = "alice", "carol", "plain"
# Who is hit at which port: by default at both.
CASES = {
    "principals, exact": (source(principals=["{lab.alice.identity}"]), {ALICE}),
    "principals, prefix": (source(principals=["cluster.local/ns/shop/*"]), {ALICE}),
    "principals, suffix": (source(principals=["*/sa/carol"]), {CAROL}),
    "principals, present": (source(principals=["*"]), {ALICE, CAROL}),
    "principals, several": (source(principals=["a/ns/b/sa/c", "{lab.carol.identity}"]), {CAROL}),
    "notPrincipals": (source(notPrincipals=["{lab.alice.identity}"]), {CAROL, PLAIN}),
    "notPrincipals, present": (source(notPrincipals=["*"]), {PLAIN}),
    "namespaces": (source(namespaces=["bank"]), {CAROL}),
    "namespaces, prefix": (source(namespaces=["sh*"]), {ALICE}),
    "notNamespaces": (source(notNamespaces=["bank"]), {ALICE, PLAIN}),
    "serviceAccounts": (source(serviceAccounts=["shop/alice"]), {ALICE}),
    "serviceAccounts of the own namespace": (source(serviceAccounts=["alice"]), {ALICE}),
    "notServiceAccounts": (source(notServiceAccounts=["shop/alice"]), {CAROL, PLAIN}),
    "ipBlocks": (source(ipBlocks=["{lab.alice.ip}"]), {ALICE}),
    "ipBlocks, a prefix": (source(ipBlocks=["10.98.1.0/24", "fd98:0:0:1::/64"]), {ALICE, PLAIN}),
    "notIpBlocks": (source(notIpBlocks=["10.98.1.0/24"]), {CAROL}),
    "two attributes": (source(namespaces=["shop", "bank"], notIpBlocks=["10.98.1.0/24"]), {CAROL}),
    "ports": (operation(ports=["8080"]), {(who, 8080) for who in (ALICE, CAROL, PLAIN)}),
    "notPorts": (operation(notPorts=["8080"]), {(who, 9080) for who in (ALICE, CAROL, PLAIN)}),
    "source and port": (
        lambda lab: source(namespaces=["shop"])(lab) + "\n    " + operation(ports=["9080"])(lab), {(ALICE, 9080)}),
    "when source.ip": (when("source.ip", "values", "{lab.alice.ip}/32"), {ALICE}),
    "when source.ip, not": (when("source.ip", "notValues", "{lab.alice.ip}/32"), {CAROL, PLAIN}),
    "when source.namespace": (when("source.namespace", "values", "bank"), {CAROL}),
    "when source.namespace, not": (when("source.namespace", "notValues", "bank"), {ALICE, PLAIN}),
    "when source.principal": (when("source.principal", "values", "{lab.alice.identity}"), {ALICE}),
    "when source.principal, not": (when("source.principal", "notValues", "{lab.alice.identity}"), {CAROL, PLAIN}),
    "when destination.ip": (when("destination.ip", "values", "{lab.server.ip}"), {ALICE, CAROL, PLAIN}),
    "when destination.ip, not": (when("destination.ip", "notValues", "{lab.server.ip}"), set()),
    "when destination.port": (when("destination.port", "values", "9080"), {(who, 9080) for who in (ALICE, CAROL, PLAIN)}),
    "when destination.port, not": (
        when("destination.port", "notValues", "9080"), {(who, 8080) for who in (ALICE, CAROL, PLAIN)}),
    "everybody": (lambda lab: "{}", {ALICE, CAROL, PLAIN}),
}
NUMBERS = itertools.count()


def admits(pod, to, port):
    """Whether the server answers there; refusals come as an end without an answer."""
    try:
        with pod.connect(to, port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return connection.recv(1) != b""
    except (ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        return False


def only_policy(lab, text, name):
    """Makes this the only policy, and waits until the server's node has it."""
    lab.policy("one", text)

    def known():
        dump = ask(lab.nodes["b"].socket, "/config_dump")[1]
        return [one["name"] for one in dump["policies"]] == [name]

    wait(known, f"{name} is all that node b knows")


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
@pytest.mark.parametrize("case", list(CASES))
def test(lab, case, action):
    rule, hit = CASES[case]
    name = f"policy-{next(NUMBERS)}"
    only_policy(lab, POLICY.format(name=name, action=action, rule=rule(lab)), name)
    for who, port in itertools.product((ALICE, CAROL, PLAIN), (8080, 9080)):
        is_hit = who in hit or (who, port) in hit
        expected = is_hit == (action == "ALLOW")
        wait(lambda: admits(getattr(lab, who), lab.server.ip, port) == expected, f"{who} at {port} admitted: {expected}")


@pytest.mark.parametrize("attribute", ["methods: [\"DELETE\"]", "paths: [\"/admin\"]", "hosts: [\"example.com\"]"])
def test_what_no_one_on_the_path_can_see_is_denied_and_said(lab, attribute):
    name = f"policy-{next(NUMBERS)}"
    only_policy(lab, POLICY.format(name=name, action="DENY", rule="to: [{operation: {%s}}]" % attribute), name)
    for who in (ALICE, CAROL, PLAIN):
        wait(lambda: not admits(getattr(lab, who), lab.server.ip, 8080), f"{who} is denied")
    warnings = lab.status()["configuration"]["warnings"]
    assert any(name in one and attribute.split(":")[0] in one for one in warnings), warnings
    name = f"policy-{next(NUMBERS)}"
    only_policy(lab, POLICY.format(name=name, action="ALLOW", rule="to: [{operation: {%s}}]" % attribute), name)
    for who in (ALICE, CAROL, PLAIN):
        wait(lambda: not admits(getattr(lab, who), lab.server.ip, 8080), f"{who} is allowed by nothing")


def test_a_policy_of_the_root_namespace_is_for_everybody(lab):
    lab.withdraw("one")
    lab.namespace("istio-system", mode=None)
    only_policy(lab, (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: istio-system}\n"
        "spec: {}\n"), "all")
    for who in (ALICE, CAROL, PLAIN):
        wait(lambda: not admits(getattr(lab, who), lab.server.ip, 8080), f"{who} is refused")
    lab.withdraw("one")
    for who in (ALICE, CAROL, PLAIN):
        wait(lambda: admits(getattr(lab, who), lab.server.ip, 8080), f"{who} is admitted again")
