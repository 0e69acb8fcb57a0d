import EventLoop
import Linux
import Routing
import Testing

@testable import L7

struct OutlierDetectorTests {
    private func detector(_ count: Int = 10, _ change: (inout OutlierDetection) -> Void = { _ in })
        -> OutlierDetector
    {
        var policy = OutlierDetection()
        change(&policy)
        var detector = OutlierDetector(policy)
        detector.update((0..<count).map(String.init))
        return detector
    }

    private func at(_ seconds: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: 1_000_000_000) + .seconds(seconds)
    }

    /// What comes of results in a row, all of endpoint 0: the number of the one that puts it out, from 1.
    private func ejecting(_ detector: OutlierDetector, _ results: [EndpointResult]) -> Int? {
        var detector = detector
        return results.indices.first { detector.record(results[$0], of: "0", at: at(0)) }.map { $0 + 1 }
    }

    @Test(
        arguments: [
            ([500, 501, 599, 503, 500], 5),
            ([500, 500, 500, 500, 200, 500, 500, 500, 500], nil),
            ([500, 500, 500, 500, 404, 500, 500, 500, 500, 500], 10),
            ([200, 302, 404, 499, 600, 200], nil),
        ] as [([Int], Int?)])
    func `five 5xx in a row put an endpoint out`(statuses: [Int], number: Int?) {
        #expect(ejecting(detector(), statuses.map { .answered($0) }) == number)
    }

    @Test(
        arguments: [
            ([502, 503, 504], 3),
            ([502, 503, 500, 504, 502, 503], 6),
            ([500, 500, 500, 500, 500, 500], nil),
            ([502, 503, 200, 504, 502], nil),
        ] as [([Int], Int?)])
    func `errors of gateways are counted by themselves`(statuses: [Int], number: Int?) {
        let detector = detector {
            $0.consecutive5xxErrors = nil
            $0.consecutiveGatewayErrors = 3
        }
        #expect(ejecting(detector, statuses.map { .answered($0) }) == number)
    }

    @Test func `failures of connections and timeouts are 503 and 504 where they are not split off`() {
        #expect(ejecting(detector(), [.failed, .timedOut, .answered(500), .failed, .timedOut]) == 5)
        let gateway = detector { $0.consecutiveGatewayErrors = 2 }
        #expect(ejecting(gateway, [.failed, .timedOut]) == 2)
        let split = detector {
            $0.splitsLocalOriginErrors = true
            $0.consecutiveLocalOriginFailures = 2
            $0.consecutiveGatewayErrors = 2
        }
        #expect(ejecting(split, [.failed, .timedOut]) == 2)
        #expect(ejecting(split, [.failed, .answered(503), .timedOut, .answered(200)]) == nil)
        #expect(ejecting(split, [.failed, .answered(502), .answered(502)]) == 3)
        let off = detector {
            $0.splitsLocalOriginErrors = true
            $0.consecutiveLocalOriginFailures = nil
        }
        #expect(ejecting(off, Array(repeating: .failed, count: 100)) == nil)
    }

    @Test(arguments: [
        (1, 10, 1), (10, 10, 1), (10, 19, 1), (10, 20, 2), (10, 50, 5), (3, 50, 1), (3, 100, 3), (20, 10, 2),
    ])
    func `so many are out at once, one in any case`(count: Int, percent: Int, out: Int) {
        var detector = detector(count) {
            $0.maxEjectionPercent = percent
            $0.consecutive5xxErrors = 1
        }
        for id in 0..<count { _ = detector.record(.answered(500), of: String(id), at: at(0)) }
        #expect(detector.ejectedCount == out)
        #expect((0..<count).count { detector.isEjected(String($0)) } == out)
    }

    /// Ejections follow each other with so many seconds in service between; then the time that the last one takes, by a sweep each
    /// second.
    private func lastTime(_ detector: OutlierDetector, ejections: Int, secondsBetween pause: Int) -> Int {
        var detector = detector
        var now = 0
        var began = 0
        for number in 1...ejections {
            began = now
            let isOut = detector.record(.answered(500), of: "0", at: at(now))
            #expect(isOut)
            while detector.isEjected("0") {
                now += 1
                _ = detector.sweep(at: at(now))
            }
            guard number < ejections else { break }
            for _ in 0..<pause {
                now += 1
                _ = detector.sweep(at: at(now))
            }
        }
        return now - began
    }

    @Test(arguments: [
        (30, 1, 0, 30), (30, 2, 0, 60), (30, 3, 0, 90), (30, 3, 1, 30), (30, 10, 0, 300), (30, 30, 0, 300),
        (400, 1, 0, 400), (400, 5, 0, 400), (120, 3, 0, 300),
    ])
    func `each time out is longer, up to 300 s, and intervals in service make it shorter`(
        base: Int, ejections: Int, pause: Int, expected: Int
    ) {
        let detector = detector {
            $0.baseEjectionTime = .seconds(base)
            $0.consecutive5xxErrors = 1
        }
        #expect(lastTime(detector, ejections: ejections, secondsBetween: pause) == expected)
    }

    @Test func `who comes back has a clean record, and what comes late from before does not count`() {
        var detector = detector { $0.consecutive5xxErrors = 2 }
        #expect(detector.isQuiet)
        var results = (0..<2).map { _ in detector.record(.answered(500), of: "0", at: at(0)) }
        #expect(results == [false, true] && detector.isEjected("0") && !detector.isQuiet)
        results = [detector.record(.answered(500), of: "0", at: at(1))]
        var returned = [detector.sweep(at: at(29)), detector.sweep(at: at(30))]
        #expect(results == [false] && returned == [0, 1] && !detector.isEjected("0"))
        results = [detector.record(.answered(500), of: "0", at: at(31))]
        returned = [detector.sweep(at: at(40))]
        #expect(results == [false] && returned == [0] && detector.isQuiet)
    }

    @Test func `endpoints that are gone are forgotten`() {
        var detector = detector { $0.consecutive5xxErrors = 1 }
        var results = [detector.record(.answered(500), of: "0", at: at(0))]
        detector.update(["1", "2"])
        #expect(detector.ejectedCount == 0)
        results.append(detector.record(.answered(500), of: "0", at: at(0)))
        detector.update(["0", "1", "2"])
        #expect(!detector.isEjected("0"))
        results.append(detector.record(.answered(500), of: "1", at: at(0)))
        detector.update(["1"])
        #expect(detector.isEjected("1") && detector.ejectedCount == 1 && results == [true, false, true])
    }
}

/// Endpoints put out because of what came of requests to them.
struct OutlierTests {
    private static let get = "GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    private static let broken = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"

    private func proxy(
        endpoints: Int = 2, timeout: Duration? = nil,
        _ change: @escaping (inout OutlierDetection) -> Void = { _ in }
    ) throws -> Proxy {
        try Proxy(
            forwarding {
                $0.retries = RetryPolicy(attempts: 0)
                $0.timeout = timeout
            }, endpoints: endpoints,
            upstream: {
                var detection = OutlierDetection()
                detection.interval = .milliseconds(20)
                detection.baseEjectionTime = .seconds(600)
                change(&detection)
                $0.outlierDetection = detection
                $0.requestsPerConnection = 1
            })
    }

    /// Sends a request and answers it; the endpoint that it went to.
    private func ask(_ proxy: Proxy, _ answer: (String) -> String) throws -> String {
        let client = proxy.client()
        let count = proxy.connections.count
        client.feed(Self.get)
        let server = try proxy.connection(count)
        _ = server.takeText()
        let id = proxy.connections[count].endpoint.id
        server.feed(answer(id))
        _ = try proxy.answer(client, "\r\n\r\n")
        return id
    }

    private func failFirst(_ id: String) -> String { id == "app.shop-0" ? Self.broken : Self.ok }

    @Test func `an endpoint that fails five times is not chosen until its time is over`() throws {
        let proxy = try proxy { $0.baseEjectionTime = .milliseconds(200) }
        let counted = L7Metrics.shared.ejections.value
        var failures = 0
        while failures < 5 { if try ask(proxy, failFirst) == "app.shop-0" { failures += 1 } }
        #expect(L7Metrics.shared.ejections.value > counted)
        let began = MonotonicTime.now()
        var others = 0
        while try ask(proxy, { _ in Self.ok }) == "app.shop-1" {
            others += 1
            try #require(MonotonicTime.now() - began < .seconds(60), "it never came back")
        }
        #expect(MonotonicTime.now() - began >= .milliseconds(150) && others > 1)
    }

    @Test func `where all are out there is no healthy upstream`() throws {
        let proxy = try proxy {
            $0.maxEjectionPercent = 100
            $0.consecutive5xxErrors = 1
        }
        for _ in 0..<2 { _ = try ask(proxy) { _ in Self.broken } }
        let client = proxy.client()
        client.feed(Self.get)
        let answer = try proxy.answer(client, "no healthy upstream")
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && proxy.records.last?.flags == .noHealthyUpstream)
    }

    @Test func `where too few are well, health is not looked at`() throws {
        let proxy = try proxy(endpoints: 4) {
            $0.maxEjectionPercent = 100
            $0.minHealthPercent = 50
            $0.consecutive5xxErrors = 1
        }
        // Two of four may be out, and then the third is one too many.
        var broken: Set<String> = []
        for _ in 0..<3 { broken.insert(try ask(proxy) { _ in Self.broken }) }
        #expect(broken.count == 3)
        var asked: Set<String> = []
        for _ in 0..<4 { asked.insert(try ask(proxy) { _ in Self.ok }) }
        #expect(asked.count == 4)
    }

    @Test func `connections that fail, break or say nothing count as errors`() throws {
        let out: (inout OutlierDetection) -> Void = {
            $0.consecutive5xxErrors = 1
            $0.maxEjectionPercent = 100
        }
        let failing = try proxy(endpoints: 4, out)
        failing.unreachable = ["app.shop-1"]
        let upstream = try #require(failing.upstreams[Destination("app.shop")])
        for number in 1...2 {
            let client = failing.client()
            client.feed(Self.get)
            // The first request goes to the one that cannot be reached.
            if number == 2 { try failing.connection().drop() }
            #expect(try failing.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 503 "))
            #expect(upstream.ejectedCount == number)
        }
        let silent = try proxy(endpoints: 4, timeout: .milliseconds(20), out)
        let client = silent.client()
        client.feed(Self.get)
        #expect(try silent.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 504 "))
        #expect(silent.upstreams[Destination("app.shop")]?.ejectedCount == 1)
    }

    @Test(arguments: [("14", 1), ("13", 1), ("0", 0), ("5", 0)])
    func `a call of gRPC counts by its own status`(status: String, out: Int) throws {
        let proxy = try proxy { $0.consecutive5xxErrors = 1 }
        let client = proxy.client()
        client.feed(
            "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n")
        let server = try proxy.connection()
        server.feed("HTTP/1.1 200 OK\r\nGrpc-Status: \(status)\r\nContent-Length: 0\r\n\r\n")
        _ = try proxy.answer(client, "\r\n\r\n")
        #expect(proxy.upstreams[Destination("app.shop")]?.ejectedCount == out)
    }

    @Test func `an upstream that ends leaves nobody in the gauge`() throws {
        let proxy = try proxy { $0.consecutive5xxErrors = 1 }
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        _ = try ask(proxy) { _ in Self.broken }
        #expect(upstream.ejectedCount == 1)
        upstream.close()
        #expect(upstream.ejectedCount == 0)
    }
}
