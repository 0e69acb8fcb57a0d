"""Tools/bench itself: its options, the configuration of the mesh it measures, and its accounts of CPU and memory."""

import importlib.machinery
import importlib.util
import json
import os
import time

import pytest
from benchmarks import envoy, load, stage, usage, warren
from benchmarks.load import BULK, HTTP
from benchmarks.measures import WORKS
from benchmarks.usage import cpu_seconds, is_disturbed, resident_kib, settled
from lab.mesh import ROOT, Failure


@pytest.fixture(scope="module")
def bench():
    loader = importlib.machinery.SourceFileLoader("bench", str(ROOT / "Tools/bench"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    loader.exec_module(module)
    return module


def test_without_options_everything_is_measured(bench):
    options = bench.parse([])
    assert (options.rounds, options.seconds, options.workers) == (5, 3, 1)
    assert len(options.works) == 10 and options.memory and max(options.idle) == 9000 and options.short == 10_000
    names = [one.name for one in bench.contenders(bench.PEERS, 1, True)]
    assert names == ["direct", "warren", "warren-same-node", "envoy-hbone/16MiB", "envoy-hbone/4MiB", "haproxy-mtls",
                     "floor", "floor-sealed", "floor-untracked", "floor-same-node"]


def test_the_quick_one_measures_a_floor_only_if_it_is_named(bench):
    assert bench.parse([]).peers == list(bench.PEERS)
    assert bench.parse(["--quick"]).peers == ["direct", "warren", "warren-same-node", "envoy-hbone", "haproxy-mtls"]
    assert bench.parse(["--quick", "warren", "floor"]).peers == ["warren", "floor"]


def test_the_quick_one_leaves_out_what_takes_long_unless_it_is_asked_for(bench):
    assert [work.name for work in bench.parse(["--quick"]).works] == [
        work.name for work in WORKS if work.name not in ("fairness", "tunnels")]
    assert [work.name for work in bench.parse(["--quick", "--only", "tunnels"]).works] == ["tunnels"]


def test_a_part_can_be_chosen(bench):
    options = bench.parse(["--quick", "--rounds", "3", "--only", "latency,memory", "warren", "direct"])
    assert (options.rounds, options.seconds, options.memory) == (3, 1, True)
    assert [work.name for work in options.works] == ["latency"]
    assert [one.name for one in bench.contenders(options.peers, 1, False)] == ["direct", "warren"]


@pytest.mark.parametrize("arguments", [["nobody"], ["--only", "nothing"], ["--rounds", "0"], ["--seconds", "1000"],
                                       ["--congestion", "nobody's"], ["--what"]])
def test_what_is_not_understood_is_refused(bench, arguments):
    with pytest.raises(SystemExit) as refusal:
        bench.parse(arguments)
    assert refusal.value.code == 2


def test_no_two_pods_share_an_address_or_a_name(bench):
    pods = [pod for one in bench.contenders(bench.PEERS, 1, True) for pod in one.pods]
    assert len({pod.addresses[0] for pod in pods}) == len({pod.namespace for pod in pods}) == len(pods)
    assert all(len(f"to-{pod.name}") <= 15 for pod in pods)  # an interface's name


def test_the_mesh_has_the_policies_and_workloads_that_are_promised(bench):
    pods = [pod for name in ("warren", "near") for pod in stage.pair(name, len(name))]
    documents = json.loads(json.dumps(warren.manifests(pods, pods[::2])))
    policies = [one for one in documents if one["kind"] == "AuthorizationPolicy"]
    assert len({one["metadata"]["name"] for one in policies}) == len(policies) == warren.POLICY_COUNT
    assert policies[-1]["spec"]["rules"][0]["from"][0]["source"]["principals"] == [
        "cluster.local/ns/bench/sa/warren-c", "cluster.local/ns/bench/sa/near-c"]
    workloads = [one for one in documents if one["kind"] == "Pod"]
    assert len({one["status"]["podIP"] for one in workloads}) == len(workloads) == warren.WORKLOAD_COUNT + 4


def test_cpu_is_the_process_s_own_clock():
    for _ in range(200_000):
        pass
    before = time.process_time()
    assert before <= cpu_seconds([os.getpid()]) <= time.process_time()


def test_we_are_our_own_family():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        family = usage.family()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert child in family and os.getpid() not in family and 1 not in family


def test_memory_is_taken_once_it_stands_still():
    assert resident_kib([os.getpid()]) > 1000
    figures = iter([1, 2, 3] + [4] * 1000)
    assert settled(lambda: next(figures), 20, 0.3) == 4


@pytest.mark.parametrize("foreign, steal, disturbed", [(0.0, 0.0, False), (0.04, 0.0, False), (0.04, 0.02, True), (0.3, 0, True)])
def test_others_disturb_from_a_twentieth_on(foreign, steal, disturbed):
    assert is_disturbed({"foreign": foreign, "steal": steal}) == disturbed


class Files:
    """Certificates that nobody reads here."""

    root = "root.pem"

    def key(self, name):
        return f"{name}-key.pem"

    def chain(self, name):
        return f"{name}.pem"


def test_a_work_is_left_out_by_whom_it_means_nothing_to(bench):
    def doers(name, has_neighbours=True):
        work = next(work for work in WORKS if work.name == name)
        return [one.name for one in bench.contenders(bench.PEERS, 1, has_neighbours) if one.does(work)]

    assert doers("tunnels") == ["warren", "envoy-hbone/16MiB", "envoy-hbone/4MiB", "haproxy-mtls"]
    assert doers("fairness") == ["direct", "warren", "envoy-hbone/16MiB", "envoy-hbone/4MiB", "floor"]
    assert doers("fairness", False) == []
    assert len(doers("requests")) == len(doers("bulk-8-down")) == 10
    assert "floor-sealed" not in doers("latency") and "floor-same-node" in doers("latency")


def test_a_neighbour_is_on_the_same_node_and_loads_the_same_proxies(bench):
    for one in bench.contenders(bench.PEERS, 1, True):
        if one.neighbours:
            client, server = one.neighbours
            assert (client.node, server.node) == (one.client.node, one.server.node) and client != one.client
    text = json.dumps(envoy.client(Files(), "10.0.0.1", 1, neighbour=client))
    assert f'"network_namespace_filepath": "/run/netns/{client.namespace}"' in text


def test_an_envoy_s_tunnel_carries_one_connection_where_each_shall_have_its_own():
    assert '"max_requests_per_connection": 1' in json.dumps(envoy.client(Files(), "10.0.0.1", 1, owns_tunnels=True))
    assert "max_requests_per_connection" not in json.dumps(envoy.client(Files(), "10.0.0.1", 1))


def connects(numbers):
    numbers = iter(numbers)
    return lambda _: next(numbers)


@pytest.mark.parametrize("opened, shared", [(200, False), (199, True), (104, True)])
def test_tunnels_that_were_shared_are_no_figure(monkeypatch, opened, shared):
    contender = stage.Contender("warren", "", None, None, handshakes=True)
    monkeypatch.setattr(load, "connections", lambda *_: ({"connections": 50}, 100 / 1e6))
    monkeypatch.setattr(load, "connects", connects([7, 7 + opened]))
    if shared:
        with pytest.raises(Failure, match="100 connections shared"):
            load.tunnels(contender, 1)
    else:
        assert load.tunnels(contender, 1) == ({"tunnels": 50}, 100 / 1e6)


def test_fairness_sets_the_same_requests_with_bulk_against_those_without(monkeypatch):
    pods = [stage.pair(name, 10 + index)[index % 2] for index, name in enumerate(("a", "b", "c", "d"))]
    contender = stage.Contender("warren", "", *pods[:2], neighbours=pods[2:])
    answers = iter(([100.0] * 99 + [200.0], [100.0] * 50 + [300.0] * 50))
    monkeypatch.setattr(load, "at_rate", lambda *_: ({"completed": 100}, next(answers)))
    monkeypatch.setattr(load, "generate", lambda pod, *_, **__: ({"bytes": 125e6, "seconds": 1.0}, []) if pod == pods[2] else None)
    monkeypatch.setattr(load, "LEAD", 0)
    figures, _ = load.fairness(contender, 1)
    assert figures == {"fair-quiet": 100.0, "fair-loaded": 300.0, "fair-quotient": 3.0, "fair-bulk": 1.0}


def test_envoys_have_the_windows_of_their_names_at_both_ends():
    for name, window in envoy.STREAM_WINDOWS.items():
        assert name.endswith(f"/{window >> 20}MiB")
        for end in (envoy.client, envoy.server):
            text = json.dumps(end(Files(), "10.0.0.1", window))
            assert f'"initial_stream_window_size": {window}, "initial_connection_window_size": {16 << 20}' in text
    assert all(f"10.0.0.1:{port}" in text for port in (HTTP, BULK))
