"""What Tools/bench waypoint makes of what load generators print, and of its samples."""

import pytest
from benchmarks import waypoint
from lab.mesh import Failure

WELL = "finished in 1.00s, 1234.50 req/s, 1MB/s\nrequests: 1300 total, 1300 started, 1234 done, {0} succeeded, {1} failed, {2} errored, 0 timeout\n"


def sample(mine, theirs):
    return {"waypoint": dict.fromkeys([key for key, *_ in waypoint.MEASURES], mine),
            "envoy-waypoint": dict.fromkeys([key for key, *_ in waypoint.MEASURES], theirs)}


def test_h2load():
    assert waypoint.h2load_figures(WELL.format(1234, 0, 0)) == (1234, 1234.5)


@pytest.mark.parametrize("counts", [(0, 0, 0), (1233, 1, 0), (1233, 0, 1)])
def test_what_fails_is_a_failure_of_all(counts):
    with pytest.raises(Failure):
        waypoint.h2load_figures(WELL.format(*counts))


def test_wrk():
    text = "  500 requests in 1.00s, 1MB read\nRequests/sec:    499.5\n"
    assert waypoint.wrk_figures(text) == (500, 499.5)
    with pytest.raises(Failure):
        waypoint.wrk_figures(text + "  Non-2xx or 3xx responses: 3\n")


def test_ratios_are_medians_of_quotients_within_a_round():
    rounds = [sample(1, 2), sample(9, 10), sample(8, 80)]
    assert set(waypoint.quotients(rounds).values()) == {0.5}


def test_a_bar_is_reached_or_open():
    lines = waypoint.markdown([sample(3, 10)]).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["open", "reached", "open", "reached", "reached", "reached", "reached"]


def test_the_host_has_100_routes_and_50_destination_rules():
    kinds = [document["kind"] for _, document in waypoint.manifests("server")]
    (routes,) = [document for _, document in waypoint.manifests("server") if document["kind"] == "VirtualService"]
    assert kinds.count("DestinationRule") == 50 and len(routes["spec"]["http"]) == 100
