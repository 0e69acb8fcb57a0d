import Linux
import Testing

@testable import Metrics

struct MetricsTests {
    @Test func `counters, gauges and histograms are written as OpenMetrics text`() {
        let registry = Registry()
        registry.counter("app_requests", "Requests.").add(3)
        registry.gauge("app_open", "Open connections.").add(-2)
        let histogram = registry.histogram("app_wait_seconds", "Waiting.", bounds: [0.5, 1])
        for value in [0.5, 0.75, 9] { histogram.observe(value) }
        #expect(
            registry.encode() == """
                # HELP app_open Open connections.
                # TYPE app_open gauge
                app_open -2
                # HELP app_requests Requests.
                # TYPE app_requests counter
                app_requests_total 3
                # HELP app_wait_seconds Waiting.
                # TYPE app_wait_seconds histogram
                app_wait_seconds_bucket{le="0.5"} 1
                app_wait_seconds_bucket{le="1.0"} 2
                app_wait_seconds_bucket{le="+Inf"} 3
                app_wait_seconds_sum 10.25
                app_wait_seconds_count 3
                # EOF

                """)
    }

    @Test func `a family without series is left out`() {
        let registry = Registry()
        _ = registry.counters("app_requests", "Requests.", labels: ["code"])
        #expect(registry.encode() == "# EOF\n")
    }

    @Test func `label values are escaped and sorted`() {
        let registry = Registry()
        let family = registry.counters("app_requests", "Requests.", labels: ["peer", "code"])
        family.with("b\"\\\n", "1").add()
        family.with("a", "2").add(2)
        let lines = registry.encode().split(separator: "\n")
        #expect(lines.dropFirst(2).first == "app_requests_total{peer=\"a\",code=\"2\"} 2")
        #expect(lines.dropFirst(3).first == "app_requests_total{peer=\"b\\\"\\\\\\n\",code=\"1\"} 1")
    }

    @Test func `series over the limit share one and are counted`() {
        let registry = Registry()
        let family = registry.counters("app_requests", "Requests.", labels: ["peer"], limit: 2)
        for peer in ["a", "b", "c", "d", "a"] { family.with(peer).add() }
        #expect(family.seriesCount == 2)
        #expect(family.overflowCount == 2)
        #expect(registry.encode().contains("app_requests_total{peer=\"other\"} 2\n"))
    }

    @Test func `an idle series goes, one that is held or changes stays`() {
        let registry = Registry()
        let start = MonotonicTime(nanoseconds: 1)
        let family = registry.counters("app_requests", "Requests.", labels: ["peer"], idle: .seconds(10))
        let held = family.with(["held"], now: start)
        for peer in ["gone", "busy"] { family.with([peer], now: start).add() }
        _ = registry.encode(now: start + .seconds(1))
        family.with(["busy"]).add()
        let later = registry.encode(now: start + .seconds(11))
        #expect(later.contains("held") && later.contains("busy") && !later.contains("gone"))
        held.add()
    }

    @Test func `the same name gives the same counter`() {
        let registry = Registry()
        registry.counter("app_requests", "Requests.").add()
        registry.counter("app_requests", "Requests.").add()
        #expect(registry.counter("app_requests", "Requests.").value == 2)
    }

    @Test func `a scaled counter is shown in its unit and never goes back`() {
        let registry = Registry()
        let busy = registry.counter("app_busy_seconds", "Busy.", scale: 1e-9)
        busy.add(1_500_000_000)
        busy.add(-1)
        #expect(registry.encode().contains("app_busy_seconds_total 1.5\n"))
    }

    @Test func `an observed gauge is asked when it is read`() {
        let registry = Registry()
        registry.observed("app_age_seconds", "Age.") { 4.5 }
        #expect(registry.encode().contains("app_age_seconds 4.5\n"))
    }
}
