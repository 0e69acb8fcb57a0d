"""What Tools/run makes of the requests that it sent through a waypoint: what is as promised, and what is called wrong."""

import json
import math

import pytest
from lab.routed import Seen, bounds, judge_canary, judge_ejection, judge_header, judge_mirror, judge_retry, servers_of

V1, V2, GOOD, BAD = "reviews-v1", "reviews-v2", "ratings-good", "ratings-bad"


def seen(server, *others, status=200, path="/"):
    """A request that `server` answered and that the others read as well."""
    return Seen("ab", status, f"{server} {path}ab", [server, *others])


def failed():
    return seen(BAD, status=503)


@pytest.mark.parametrize("count, share, doubt", [(200, 0.1, 1e-6), (50, 0.5, 0.01), (10, 0.9, 0.2)])
def test_outside_of_the_bounds_lies_at_most_half_of_the_doubt_on_each_side(count, share, doubt):
    def probability(numbers):
        return sum(math.comb(count, number) * share**number * (1 - share) ** (count - number) for number in numbers)

    least, most = bounds(count, share, doubt)
    assert probability(range(least)) <= doubt / 2 < probability(range(least + 1))
    assert probability(range(most + 1, count + 1)) <= doubt / 2 < probability(range(most, count + 1))


def test_a_nonce_is_found_as_often_as_a_server_read_it():
    def line(path):
        return json.dumps({"from": "10.97.4.20", "said": path}) + "\n"

    logs = {V1: line("/ab") + "no JSON\n" + line("/mirrored/cd") + line("/ef"), V2: line("/ab") + line("/ab"), GOOD: "3\n"}
    assert servers_of(["ab", "cd", "gh"], logs) == {"ab": [V1, V2, V2], "cd": [V1], "gh": []}


@pytest.mark.parametrize("at_v2, right", [(0, False), (2, False), (3, True), (20, True), (43, True), (44, False), (200, False)])
def test_a_canary_gets_its_share(at_v2, right):
    row = judge_canary([seen(V2)] * at_v2 + [seen(V1)] * (200 - at_v2))
    assert (not row.problems) == right
    assert row.observed == f"{200 - at_v2} at v1, {at_v2} at v2"


CANARY = [seen(V2)] * 20 + [seen(V1)] * 179


@pytest.mark.parametrize("last", [
    seen(V1, V2), seen(V1, V1), Seen("ab", 200, f"{V1} /ab", []), Seen("ab", 200, f"{V2} /ab", [V1]),
    Seen("ab", 200, f"{V1} /cd", [V1]), Seen("ab", 0, "ConnectionResetError", [V1]), seen(V1, status=503)])
def test_one_wrong_request_is_enough(last):
    assert not judge_canary([*CANARY, seen(V1)]).problems
    assert judge_canary([*CANARY, last]).problems


@pytest.mark.parametrize("last, right", [(seen(V2), True), (seen(V1), False), (seen(V2, V1), False), (seen(V2, status=404), False)])
def test_a_header_leads_to_its_version_alone(last, right):
    assert (not judge_header([seen(V2)] * 19 + [last]).problems) == right


@pytest.mark.parametrize("last, right", [
    (seen(V1, V2, path="/mirrored/"), True), (seen(V1), False), (seen(V2, V1), False), (seen(V1, V2, V2), False)])
def test_a_mirrored_request_is_read_by_both_and_answered_by_one(last, right):
    assert (not judge_mirror([seen(V1, V2)] * 19 + [last]).problems) == right


@pytest.mark.parametrize("last, right", [
    (seen(GOOD, BAD), True), (seen(GOOD), True), (failed(), False), (seen(GOOD, BAD, BAD), False), (seen(GOOD, GOOD), False)])
def test_what_fails_is_tried_again_once(last, right):
    assert (not judge_retry([seen(GOOD, BAD)] * 19 + [last]).problems) == right


def test_without_a_failure_nothing_is_shown_of_retries():
    assert judge_retry([seen(GOOD)] * 40).problems


@pytest.mark.parametrize("errors, out, right", [(5, 1, True), (4, 1, False), (6, 1, False), (5, 0, False), (5, 2, False), (0, 0, False)])
def test_an_endpoint_is_out_after_five_errors(errors, out, right):
    row = judge_ejection([seen(GOOD), *[failed()] * errors, *[seen(GOOD)] * 70], out)
    assert (not row.problems) == right


@pytest.mark.parametrize("last", [seen(GOOD, BAD), seen(GOOD, status=503), seen(BAD), Seen("ab", 503, "no healthy upstream", [])])
def test_an_answer_is_that_of_the_one_endpoint_asked(last):
    assert judge_ejection([*[failed()] * 4, seen(GOOD), last], 1).problems
