"""What a pod sends while it leaves the mesh, or the mesh ends: nothing of it in the clear."""

import threading

import pytest
from warrenlab import Lab, ask, wait

SOURCE = 8082


@pytest.fixture
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.far = lab.pod("shop/far", node="b")
        lab.near = lab.pod("shop/near", node="a")
        for pod in (lab.far, lab.near):
            pod.serve()
        yield lab.start()


def leaves(lab, server):
    server.labels["istio.io/dataplane-mode"] = "none"
    server.write()
    wait(lambda: not server.has_rules(), "it has left")


def ends(lab, server):
    assert ask(server.node.socket, "/quitquitquit?capture=remove", "POST")[0] == 200
    wait(lambda: not server.has_rules(), "the rules are gone", timeout=30)


@pytest.mark.parametrize("end", [leaves, ends])
@pytest.mark.parametrize("server", ["far", "near"])
def test_what_is_under_way_does_not_go_on_in_the_clear(lab, server, end):
    server = getattr(lab, server)
    wait(lambda: lab.client.echoes(server.ip, 8080), "it works")
    received = [0]
    with lab.capture(server.netns, "eth0") as capture, lab.client.connect(server.ip, SOURCE, timeout=30) as connection:
        # More than can be through before it ends.
        connection.sendall(b"%d\n" % (1 << 40))

        def read():
            try:
                while data := connection.recv(1 << 18):
                    received[0] += len(data)
            except OSError:
                pass

        reader = threading.Thread(target=read)
        reader.start()
        wait(lambda: received[0] > 10_000_000, "bytes flow")
        end(lab, server)
        reader.join(30)
        assert not reader.is_alive(), "the connection has ended"
    said = {flow: len(data) for flow, data in capture.streams().items() if flow[1] == SOURCE and data}
    assert not said, said
