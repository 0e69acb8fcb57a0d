"""What Tools/bench makes of its samples: percentiles, ratios, the table, the plot."""

import xml.etree.ElementTree

import pytest
from benchmarks import bars, plot, report, rounds
from benchmarks.figures import Samples, form, percentile, ratios, spread
from benchmarks.measures import MEASURES, WORKS
from benchmarks.memory import kib_each

CALM = {"foreign": 0.0, "steal": 0.0, "disturbed": False, "tries": 1}
VARIANTS = ["envoy-hbone/16MiB", "envoy-hbone/4MiB"]


def samples(**figures):
    """Of contenders by name: {measure: values by round}. `envoy16` and `envoy4` are the variants."""
    names = dict(zip(("envoy16", "envoy4"), VARIANTS))
    made = Samples()
    for contender, measures in figures.items():
        for key, values in measures.items():
            for number, value in enumerate(values):
                made.add(names.get(contender, contender), "work", number, {key: value}, CALM)
    return made


@pytest.mark.parametrize("share, expected", [(0.5, 50), (0.99, 99), (0.999, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_seen(share, expected):
    assert percentile(list(range(1, 101)), share) == expected


def test_a_percentile_of_one_value_is_it():
    assert percentile([7], 0.5) == percentile([7], 0.999) == 7


@pytest.mark.parametrize("value, text", [
    (12345.6, "12,346"), (1000, "1,000"), (999.4, "999"), (16.123, "16.1"), (1.5, "1.50"), (0.0512, "0.0512"), (0, "0")])
def test_figures_have_three_digits(value, text):
    assert form(value) == text


def test_a_spread_shows_the_median_and_both_ends():
    assert spread([3, 1, 20]) == "3.00 (1.00..20.0)"
    assert spread([5]) == "5.00"
    assert spread([]) == "–"


def test_a_ratio_is_of_what_was_measured_a_moment_apart():
    # The machine was half as fast in the second round, for both.
    made = samples(warren={"requests": [300, 150, 290]}, direct={"requests": [600, 300, 290]})
    assert made.ratio("warren", "direct", "requests") == 0.5


def test_a_round_that_lacks_one_of_both_has_no_ratio():
    made = samples(warren={"requests": [300]}, direct={"requests": [600, 100]})
    assert made.ratio("warren", "direct", "requests") == 0.5
    assert made.ratio("warren", "haproxy-mtls", "requests") is None


def test_of_variants_the_better_counts_measure_by_measure():
    made = samples(envoy16={"requests": [10], "p50": [10]}, envoy4={"requests": [20], "p50": [20]})
    assert made.better(VARIANTS, "requests") == "envoy-hbone/4MiB"
    assert made.better(VARIANTS, "p50") == "envoy-hbone/16MiB"
    assert made.better(VARIANTS, "p99") is None


def test_ratios_have_the_worst_where_several_measures_share_a_name():
    made = samples(
        warren={"bulk-1-up": [20], "bulk-8-down": [12], "bulk-1-up-cpu": [0.5], "bulk-8-down-cpu": [0.9], "p50": [50]},
        envoy16={"bulk-1-up": [10], "bulk-8-down": [10], "bulk-1-up-cpu": [1], "bulk-8-down-cpu": [1], "p50": [100]})
    found = ratios(made, "warren", VARIANTS)
    assert (found["bulk_gbps"], found["cpu_s_per_gib"], found["p50_us"]) == (1.2, 0.9, 0.5)
    assert found["each"]["bulk-1-up"] == 2
    assert ratios(made, "warren", ["direct"]) == {}


def test_ratios_have_the_names_that_the_json_file_promises():
    names = {measure.ratio for measure in MEASURES.values()}
    assert names >= {"bulk_gbps", "cpu_s_per_gib", "requests_per_s", "cpu_us_per_request", "p50_us", "p99_us",
                     "connections_per_s", "first_byte_us", "tunnels_per_s", "tunnel_cpu_us",
                     "fair_p99_quotient"}


def columns(made):
    return {one["contender"].partition("/")[0]: [name for name in (*VARIANTS, one["contender"]) if name.startswith(one["contender"].partition("/")[0])]
            for one in made.list}


@pytest.mark.parametrize("warren, floor, standing", [
    (160, 200, "reached"), (140, 200, "open"), (120, 140, "beyond the floor"), (140, None, "missed; no floor was measured")])
def test_a_bar_that_not_even_the_floor_reaches_is_beyond_it(warren, floor, standing):
    floors = {"floor": {"requests": [floor]}} if floor else {}
    made = samples(warren={"requests": [warren]}, envoy16={"requests": [100]}, **floors)
    (row,) = bars.table(made, columns(made))
    assert (row["bar"], row["aim"], row["warren"], row["standing"]) == ("requests/s", 1.5, warren / 100, standing)
    assert row["floors"] == ({"floor": floor / 100} if floor else {})
    assert row["warren/floor"] == (warren / floor if floor else None)


def floors(made, name, **figures):
    for key, value in figures.items():
        made.add(name, "work", 0, {key.replace("_", "-"): value}, CALM)
    return made


def test_less_is_better_where_a_bar_is_a_cost_and_any_floor_may_reach_it():
    made = samples(warren={"requests-cpu": [70]}, envoy16={"requests-cpu": [100]}, floor={"requests-cpu": [65]})
    (row,) = bars.table(floors(made, "floor-untracked", requests_cpu=62), columns(made))
    assert list(row["floors"].items()) == [("floor", 0.65), ("floor-untracked", 0.62)]
    assert (row["standing"], row["warren/floor"]) == ("beyond the floor", 70 / 65)
    made.list[-1]["figures"]["requests-cpu"] = 55
    assert bars.table(made, columns(made))[0]["standing"] == "open: floor-untracked reaches it"


def test_of_bulk_the_worst_direction_is_held_to_the_bar_and_the_floor_has_to_encrypt():
    made = samples(warren={"bulk-1-up": [20], "bulk-8-down": [12]}, envoy16={"bulk-1-up": [10], "bulk-8-down": [10]},
                   floor={"bulk-1-up": [30], "bulk-8-down": [15]})
    (row,) = bars.table(made, columns(made))
    assert (row["warren"], row["floors"], row["standing"]) == (1.2, {"floor": 1.5}, "beyond the floor")
    floors(made, "floor-sealed", bulk_1_up=18)
    (row,) = bars.table(made, columns(made))
    assert list(row["floors"].items()) == [("floor-sealed", 1.8), ("floor", 1.5)]
    assert (row["standing"], row["warren/floor"]) == ("open", 20 / 18)


def test_a_bar_may_be_a_figure_by_itself_and_one_within_a_node():
    made = samples(warren={"fair-quotient": [3]}, direct={"fair-quotient": [1.5], "requests": [100]})
    for name, rate in (("warren-same-node", 50), ("floor-same-node", 55)):
        made.add(name, "requests", 0, {"requests": rate}, CALM)
    fair, within = bars.table(made, columns(made))
    assert (fair["to"], fair["warren"], fair["floors"], fair["standing"]) == ("", 3, {"direct": 1.5}, "open")
    assert (within["to"], within["warren"], within["standing"]) == ("direct", 0.5, "beyond the floor")


def test_the_report_has_the_bars_where_a_floor_was_measured():
    one = result()
    assert "| Bar |" not in report.markdown(one) and one.json()["bars"][0]["floors"] == {}
    one.samples.list += samples(floor={"requests": [180, 150]}).list
    one.contenders["floor"] = "two forwarders"
    assert "| requests/s | envoy-hbone | ≥ 1.50 | 2.00 | 1.20 [floor] | 1.67 | reached |" in report.markdown(one).splitlines()
    assert one.json()["ratios"]["floor/envoy-hbone"]["requests_per_s"] == 1.2
    assert one.json()["ratios"]["warren/floor"]["requests_per_s"] == pytest.approx(5 / 3)


def test_each_contender_goes_first_in_turn():
    assert [rounds.order(["a", "b", "c"], number) for number in range(3)] == [
        ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


class Contender:
    def __init__(self, name):
        self.name = name

    def does(self, _):
        return True


class Watch:
    """Says of each sample in turn how much of the machine others used."""

    def __init__(self, *foreign):
        self.foreign = list(foreign)

    def begin(self):
        pass

    def end(self):
        return {"foreign": self.foreign.pop(0), "steal": 0.0}


@pytest.mark.parametrize("bound, foreign, redone, tries, disturbed", [
    (9, [0.01], 0, 1, False),
    (9, [0.3, 0.01], 1, 2, False),
    (9, [0.3, 0.3, 0.3], 2, 3, True),  # not without end
    (0, [0.3], 0, 1, True),  # not where there is no time for it
])
def test_a_disturbed_sample_is_taken_again(monkeypatch, bound, foreign, redone, tries, disturbed):
    figures = iter(range(1, 10))
    monkeypatch.setattr(rounds, "sample", lambda *_: {"requests": next(figures)})
    monkeypatch.setattr(rounds.time, "sleep", lambda _: None)
    made, count = rounds.measure([Contender("direct")], WORKS[4:5], 1, 1, bound, Watch(*foreign), lambda _: None)
    assert count == redone
    assert [(one["tries"], one["disturbed"], one["figures"]["requests"]) for one in made.list] == [(tries, disturbed, tries)]


ROWS = [{"state": "at start", "connections": 0, "client": 20480, "server": 30720},
        {"state": "1,000 idle", "connections": 1000, "client": 21480, "server": 32720},
        {"state": "after those", "connections": 0, "client": 20480, "server": 30720}]


def result():
    made = samples(direct={"requests": [600, 500]}, warren={"requests": [300, 250], "requests-cpu": [20, 22]},
                   envoy16={"requests": [100, 100], "requests-cpu": [40, 44]}, envoy4={"requests": [150, 125]})
    names = {"direct": "no proxy", "warren": "two <daemons>", **{name: "two Envoys" for name in VARIANTS}}
    machine = {"cpu": "A & B", "cores": 2, "kernel": "6", "congestion control": "cubic", "commit": "abc", "date": "2026-01-02T"}
    return report.Result(machine, names, made, 2, 3, 0, {"warren": ROWS}, {"node-a": 10240})


def test_the_table_shows_medians_and_ratios():
    text = report.markdown(result())
    assert ("| requests, 64 connections | 1/s | 550 (500..600) | 275 (250..300) | 138 (125..150) [4MiB] | 0.50 | **2.00** |"
            in text.splitlines())
    assert "| requests: CPU | µs each | – | 21.0 (20.0..22.0) | 42.0 (40.0..44.0) [16MiB] | – | **0.50** |" in text
    assert "| warren | 20.0, 30.0 | 21.0, 32.0 | 20.0, 30.0 | 1.00, 2.00 |" in text
    assert "empty snapshot: 10.0 MiB" in text
    assert "latency" not in text.partition("\n- ")[2]


def test_the_json_holds_ratios_and_every_sample():
    made = result().json()
    assert made["ratios"]["warren/envoy-hbone"]["requests_per_s"] == 2
    assert made["ratios"]["warren/direct"]["requests_per_s"] == 0.5
    assert len(made["samples"]) == 12
    assert made["kib_per_idle_connection"]["warren"] == kib_each(ROWS) == {"client": 1.0, "server": 2.0}


def test_the_plot_is_svg_with_a_bar_for_each_figure():
    root = xml.etree.ElementTree.fromstring(plot.svg(result()))
    titles = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert titles.count("warren") == 3 and titles.count("direct") == 1  # requests, their CPU, memory
    width = float(root.get("viewBox").split()[2])
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    assert len(bars) == 6 and all(float(bar.get("x")) + float(bar.get("width")) < width for bar in bars)
