import Discovery
import Linux
import Mesh
import TestSupport
import Testing

/// A cache with a clock of its own; certificates are texts.
private struct Bench {
    var cache: CertificateCache<String>
    var now = Moment(monotonic: MonotonicTime(nanoseconds: 1_000_000_000_000), wall: 1_700_000_000)
    var fetches: [CertificateSubject] = []
    var resumed: [UInt64: String] = [:]
    private var nextWaiter: UInt64 = 0

    init(_ change: (inout CertificateCache<String>.Configuration) -> Void = { _ in }) {
        var configuration = CertificateCache<String>.Configuration()
        change(&configuration)
        cache = CertificateCache(configuration)
    }

    mutating func advance(_ duration: Duration) {
        now.monotonic = now.monotonic + duration
        now.wall += duration.wholeMilliseconds / 1_000
    }

    mutating func step() {
        for action in cache.step(now) {
            switch action {
            case .fetch(let subject): fetches.append(subject)
            case .resume(let waiter, .success(let text)): resumed[waiter] = text
            case .resume(let waiter, .failure(let error)): resumed[waiter] = "failed: \(error)"
            }
        }
    }

    /// Asks as a connection does; `waiting` and a number when it has to wait.
    mutating func ask(_ subject: CertificateSubject, patience: Duration = .seconds(10)) -> String {
        nextWaiter += 1
        defer { step() }
        switch cache.request(subject, waiter: nextWaiter, deadline: now.monotonic + patience, now) {
        case .ready(let text): return text
        case .waiting: return "waiting \(nextWaiter)"
        case .unavailable(let error): return "failed: \(error)"
        }
    }

    mutating func issue(
        _ subject: CertificateSubject, _ text: String, life: Int64 = 86_400, random: Double = 0
    ) {
        let certificate = IssuedCertificate(notBefore: now.wall, notAfter: now.wall + life, bundle: text)
        cache.issued(subject, certificate, random: random, now)
        step()
    }

    mutating func fail(_ subject: CertificateSubject, _ reason: String = "no", random: Double = 0) {
        cache.failed(subject, reason, random: random, now)
        step()
    }
}

private func subject(_ name: String) -> CertificateSubject {
    .workload(Identity(trustDomain: "td", namespace: "shop", serviceAccount: name))
}

struct CertificateCacheTests {
    private let a = subject("a")

    @Test func `fetches once for all who ask, and serves from then on`() {
        var bench = Bench()
        #expect(bench.ask(a) == "waiting 1")
        #expect(bench.ask(a) == "waiting 2")
        #expect(bench.fetches == [a])
        bench.issue(a, "A")
        #expect(bench.resumed == [1: "A", 2: "A"])
        #expect(bench.ask(a) == "A")
        #expect(bench.fetches == [a])
    }

    @Test func `has no more than eight requests in flight and takes the urgent ones first`() {
        var bench = Bench()
        for index in 0..<10 { bench.cache.warm(subject("w\(index)"), bench.now) }
        bench.step()
        #expect(bench.fetches == (0..<8).map { subject("w\($0)") })
        _ = bench.ask(a)
        // Moves up from the queue of those that are only warmed.
        _ = bench.ask(subject("w9"))
        #expect(bench.fetches.count == 8)
        for index in 0..<3 { bench.issue(subject("w\(index)"), "W") }
        #expect(bench.fetches.suffix(3) == [a, subject("w9"), subject("w8")])
    }

    @Test func `renews at half of the life, and spreads it`() {
        for (random, renewal) in [(0.0, 43_200), (1.0, 47_520), (-1.0, 38_880)] as [(Double, Int)] {
            var bench = Bench()
            _ = bench.ask(a)
            bench.issue(a, "A", random: random)
            bench.advance(.seconds(renewal - 1))
            bench.step()
            #expect(bench.fetches.count == 1)
            bench.advance(.seconds(1))
            bench.step()
            #expect(bench.fetches.count == 2)
            #expect(bench.ask(a) == "A")
            bench.issue(a, "B")
            #expect(bench.ask(a) == "B")
        }
    }

    @Test func `serves the old certificate until it expires, however many renewals fail`() {
        var bench = Bench()
        _ = bench.ask(a)
        bench.issue(a, "A", life: 600)
        bench.advance(.seconds(300))
        bench.step()
        var attempts = 0
        while bench.cache.current(a, bench.now) != nil {
            #expect(bench.ask(a) == "A")
            if bench.fetches.count > attempts + 1 {
                attempts += 1
                bench.fail(a, "the CA is away")
            }
            bench.advance(.seconds(1))
            bench.step()
        }
        // 1, 2, 4, 8, … seconds apart for 300 seconds.
        #expect(attempts == 9)
        #expect(bench.now.wall == 1_700_000_600)
        #expect(bench.ask(a).hasPrefix("waiting") || bench.ask(a) == "failed: the CA is away")
    }

    @Test func `fails at once with the last reason while it backs off, and recovers`() {
        var bench = Bench()
        #expect(bench.ask(a) == "waiting 1")
        bench.fail(a, "denied")
        #expect(bench.resumed == [1: "failed: denied"])
        #expect(bench.ask(a) == "failed: denied")
        #expect(bench.cache.nextWake(bench.now) == .seconds(1))
        bench.advance(.seconds(1))
        bench.step()
        #expect(bench.fetches.count == 2)
        // The retry is under way: worth waiting for.
        #expect(bench.ask(a) == "waiting 3")
        bench.fail(a, "denied again", random: 1)
        #expect(bench.resumed[3] == "failed: denied again")
        #expect(bench.cache.nextWake(bench.now) == .milliseconds(2_400))
        bench.advance(.milliseconds(2_400))
        bench.step()
        bench.issue(a, "A")
        #expect(bench.ask(a) == "A")
    }

    @Test func `lets nobody wait beyond the deadline`() {
        var bench = Bench()
        #expect(bench.ask(a, patience: .seconds(2)) == "waiting 1")
        #expect(bench.ask(a, patience: .seconds(5)) == "waiting 2")
        #expect(bench.cache.nextWake(bench.now) == .seconds(2))
        bench.advance(.seconds(2))
        bench.step()
        #expect(bench.resumed == [1: "failed: the CA did not answer in time"])
        bench.issue(a, "A")
        #expect(bench.resumed[2] == "A")
    }

    @Test func `refuses more waiters and more identities than its limits`() {
        var bench = Bench {
            $0.waiters = 2
            $0.subjects = 2
        }
        _ = bench.ask(a)
        _ = bench.ask(a)
        #expect(bench.ask(a) == "failed: too many connections wait for certificates")
        bench.issue(a, "A")
        _ = bench.ask(subject("b"))
        #expect(bench.ask(subject("c")) == "failed: too many identities on this node")
    }

    @Test func `warms what the node's workloads need and forgets what left`() {
        var bench = Bench()
        bench.cache.setWanted([a, subject("b")], bench.now)
        bench.step()
        #expect(Set(bench.fetches) == [a, subject("b")])
        bench.issue(a, "A")
        _ = bench.ask(subject("b"))
        bench.cache.setWanted([a], bench.now)
        bench.step()
        #expect(bench.resumed == [1: "failed: the workload left the node"])
        // Its answer comes too late to be kept.
        bench.issue(subject("b"), "B")
        #expect(bench.cache.current(subject("b"), bench.now) == nil)
        bench.cache.setWanted([], bench.now)
        #expect(bench.cache.current(a, bench.now) == nil)
        #expect(bench.cache.status.isEmpty)
    }

    @Test func `an identity that comes back while its request is under way takes that answer`() {
        var bench = Bench()
        bench.cache.setWanted([a], bench.now)
        bench.step()
        bench.cache.setWanted([], bench.now)
        bench.cache.setWanted([a], bench.now)
        #expect(bench.ask(a) == "waiting 1")
        #expect(bench.fetches == [a])
        bench.issue(a, "A")
        #expect(bench.resumed == [1: "A"])
    }

    @Test func `asks for nothing before it has the node's own certificate`() {
        var bench = Bench { $0.needsNodeCertificate = true }
        _ = bench.ask(a)
        #expect(bench.fetches.isEmpty)
        bench.cache.warm(.node, bench.now)
        bench.step()
        #expect(bench.fetches == [.node])
        bench.issue(.node, "N")
        #expect(bench.fetches == [.node, a])
    }

    @Test func `takes no certificate that has expired`() {
        var bench = Bench()
        _ = bench.ask(a)
        bench.issue(a, "A", life: 0)
        #expect(bench.resumed == [1: "failed: the certificate has expired already"])
        // Nor one that an earlier run has saved.
        let old = IssuedCertificate(notBefore: 0, notAfter: bench.now.wall, bundle: "old")
        bench.cache.issued(subject("b"), old, random: 0, bench.now)
        #expect(bench.cache.current(subject("b"), bench.now) == nil)
    }

    @Test func `takes what an earlier run has saved, and renews it in its time`() {
        var bench = Bench()
        let saved = IssuedCertificate(
            notBefore: bench.now.wall - 80_000, notAfter: bench.now.wall + 6_400, bundle: "saved")
        bench.cache.issued(a, saved, random: 0, bench.now)
        #expect(bench.ask(a) == "saved")
        bench.advance(.seconds(1))
        bench.step()
        #expect(bench.fetches == [a])
        #expect(bench.cache.valid(bench.now).map(\.bundle) == ["saved"])
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `keeps its limits and leaves nobody waiting, whatever happens`(seed: UInt64) {
        var bench = Bench { $0.inFlight = 3 }
        var random = SeededGenerator(seed: seed)
        let subjects = (0..<8).map { subject("s\($0)") }
        var asked: Set<String> = []
        for _ in 0..<600 {
            let one = subjects[Int.random(in: 0..<8, using: &random)]
            let open = bench.fetches
            switch random.next() % 7 {
            case 0, 1:
                let answer = bench.ask(one, patience: .seconds(Int64.random(in: 1...20, using: &random)))
                if answer.hasPrefix("waiting") { asked.insert(answer) }
            case 2: bench.cache.warm(one, bench.now)
            case 3:
                bench.cache.setWanted(Set(subjects.filter { _ in Bool.random(using: &random) }), bench.now)
            case 4:
                if let first = open.first { bench.fetches.removeFirst(); bench.issue(first, "x", life: 60) }
            case 5: if let first = open.first { bench.fetches.removeFirst(); bench.fail(first) }
            default: bench.advance(.seconds(Int64.random(in: 0...30, using: &random)))
            }
            bench.step()
            #expect(bench.fetches.count <= 3, "seed \(seed)")
            #expect(Set(bench.fetches).count == bench.fetches.count, "seed \(seed)")
        }
        bench.advance(.seconds(30))
        bench.step()
        #expect(Set(bench.resumed.keys.map { "waiting \($0)" }) == asked, "seed \(seed)")
    }
}
