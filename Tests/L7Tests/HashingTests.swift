import Address
import HTTP2
import Routing
import Testing

@testable import L7

struct HashingTests {
    /// Published with the algorithm's implementations.
    @Test(
        arguments: [
            ("", 0, 0xef46_db37_51d8_e999), ("a", 0, 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0, 0x44bc_2cf5_ad77_0999),
            ("123456789", 0, 0x8cb8_41db_40e6_ae83),
            ("Nobody inspects the spammish repetition", 0, 0xfbce_a83c_8a37_8bf1),
        ] as [(String, UInt64, UInt64)])
    func `XXH64's vectors`(text: String, seed: UInt64, expected: UInt64) {
        #expect(XXHash64.hash(text, seed: seed) == expected)
    }

    private static let algorithms: [LoadBalancing.HashAlgorithm] = [
        .ring(minimumSize: 1_024), .ring(minimumSize: 0), .ring(minimumSize: 100_000),
        .maglev(tableSize: 65_537),
    ]

    private func members(_ ids: some Sequence<Int>, weight: (Int) -> UInt32 = { _ in 1 })
        -> [HashTable.Member]
    {
        ids.map { .init(id: "app-\($0)", weight: weight($0)) }
    }

    private let keys = (0..<20_000).map { XXHash64.hash("key \($0)") }

    private func shares(_ table: HashTable, _ count: Int) -> [Double] {
        var found = [Double](repeating: 0, count: count)
        for key in keys { found[table.member(key, attempt: 0)] += 1 / Double(keys.count) }
        return found
    }

    @Test(arguments: algorithms)
    func `a member that leaves takes its share along, and little else moves`(
        algorithm: LoadBalancing.HashAlgorithm
    ) {
        let before = HashTable(algorithm, members(0..<10))
        let left = Array(0..<10).filter { $0 != 4 }
        let after = HashTable(algorithm, members(left))
        var moved = 0
        for key in keys {
            let old = before.member(key, attempt: 0)
            if old != 4, left[after.member(key, attempt: 0)] != old { moved += 1 }
        }
        // With a ring exactly those of the member that left move; Maglev's tables give up a little of that for even shares.
        switch algorithm {
        case .ring: #expect(moved == 0)
        case .maglev: #expect(Double(moved) < 0.05 * Double(keys.count))
        }
    }

    @Test(
        arguments: [
            (.ring(minimumSize: 1_024), 0.5), (.ring(minimumSize: 100_000), 0.1),
            (.maglev(tableSize: 65_537), 0.1),
            // Not prime, and few slots.
            (.maglev(tableSize: 1_000), 0.15),
        ] as [(LoadBalancing.HashAlgorithm, Double)])
    func `shares are as the weights`(algorithm: LoadBalancing.HashAlgorithm, tolerance: Double) {
        let even = shares(HashTable(algorithm, members(0..<10)), 10)
        #expect(even.allSatisfy { abs($0 - 0.1) < 0.1 * tolerance }, "\(even)")
        let uneven = shares(HashTable(algorithm, members(0..<4) { $0 == 0 ? 5 : 1 }), 4)
        #expect(abs(uneven[0] - 0.625) < 0.625 * tolerance, "\(uneven)")
    }

    @Test(arguments: algorithms)
    func `other attempts find other members`(algorithm: LoadBalancing.HashAlgorithm) {
        let table = HashTable(algorithm, members(0..<10))
        for key in keys.prefix(100) {
            #expect(Set((0..<50).map { table.member(key, attempt: $0) }).count > 1)
        }
        #expect(HashTable(algorithm, members([7])).member(1, attempt: 3) == 0)
    }

    @Test func `extreme weights and tables`() {
        let heavy = members(0..<2) { $0 == 0 ? .max : 1 }
        for algorithm in [LoadBalancing.HashAlgorithm.ring(minimumSize: 64), .maglev(tableSize: 3)] {
            #expect((0...1).contains(HashTable(algorithm, heavy).member(.max, attempt: 0)))
        }
        // More members than slots: some have none.
        #expect((0..<9).contains(HashTable(.maglev(tableSize: 4), members(0..<9)).member(77, attempt: 1)))
    }

    // MARK: Keys

    @Test(
        arguments: [
            (.header("x-user"), "ann"), (.query("id"), "7=8"), (.query("none"), nil), (.query("empty"), ""),
            (.sourceIP, "10.1.2.3"), (.header("x-none"), nil),
            (.cookie(name: "b", path: nil, lifetime: nil), "two"),
            (.cookie(name: "c", path: nil, lifetime: nil), "three"),
            (.cookie(name: "d", path: nil, lifetime: nil), nil),
        ] as [(LoadBalancing.HashKey, String?)])
    func `what requests have for a key`(key: LoadBalancing.HashKey, value: String?) {
        var head = HeaderBlock()
        head.append(":path", "/a/id=1?x=id&id=7=8&id=9&empty&y")
        head.append("x-user", "ann")
        head.append("cookie", "a=one; b=two")
        head.append("cookie", "bb=no; c=\"three\" ;dd=4")
        let client = ClientContext(address: SocketAddress("[::ffff:10.1.2.3]:5"))
        #expect(key.hash(head, from: client) == value.map { XXHash64.hash($0) })
    }

    // MARK: Requests

    private func proxy(
        _ key: LoadBalancing.HashKey, _ change: (inout Upstream.Configuration) -> Void = { _ in }
    )
        throws -> Proxy
    {
        let proxy = try Proxy(
            endpoints: 10,
            upstream: {
                $0.balancing = .hash(key, .ring(minimumSize: 1_024))
                $0.requestsPerConnection = 1
                change(&$0)
            })
        proxy.numbers = (0..<97).map { XXHash64.hash("\($0)") }
        return proxy
    }

    private func ask(_ proxy: Proxy, _ fields: String, status: Int = 200) throws -> (
        id: String, answer: String
    ) {
        let client = proxy.client()
        let count = proxy.connections.count
        client.feed("GET / HTTP/1.1\r\nHost: app\r\n\(fields)\r\n")
        let server = try proxy.connection(count)
        server.feed("HTTP/1.1 \(status) OK\r\nContent-Length: 2\r\n\r\nhi")
        return (proxy.connections[count].endpoint.id, try proxy.answer(client, "hi"))
    }

    @Test func `requests with the same key go to the same endpoint, and others elsewhere too`() throws {
        let proxy = try proxy(.header("x-user"))
        let first = try ask(proxy, "X-User: ann\r\n").id
        var others: Set<String> = []
        for number in 0..<20 {
            #expect(try ask(proxy, "X-User: ann\r\n").id == first)
            others.insert(try ask(proxy, "X-User: \(number)\r\n").id)
        }
        #expect(others.count > 3)
        var without: Set<String> = []
        for _ in 0..<20 { without.insert(try ask(proxy, "").id) }
        #expect(without.count > 3)
    }

    @Test func `an endpoint that is out hands its keys to another`() throws {
        let proxy = try proxy(.header("x-user")) {
            var detection = OutlierDetection()
            detection.consecutive5xxErrors = 1
            detection.baseEjectionTime = .seconds(600)
            $0.outlierDetection = detection
        }
        let first = try ask(proxy, "X-User: ann\r\n", status: 500).id
        let second = try ask(proxy, "X-User: ann\r\n").id
        #expect(second != first)
        #expect(try ask(proxy, "X-User: ann\r\n").id == second)
    }

    @Test(
        arguments: [
            (Duration.seconds(60), "/shop", "; Max-Age=60; Path=/shop; HttpOnly"), (.zero, nil, "; HttpOnly"),
        ] as [(Duration, String?, String)])
    func `a request without the cookie gets one that leads back`(
        lifetime: Duration, path: String?, attributes: String
    ) throws {
        let proxy = try proxy(.cookie(name: "stick", path: path, lifetime: lifetime))
        var asked: Set<String> = []
        for _ in 0..<10 {
            let (id, answer) = try ask(proxy, "")
            asked.insert(id)
            let line = try #require(
                answer.split(separator: "\r\n").first { $0.hasPrefix("set-cookie: stick=") })
            #expect(line.hasSuffix("\"" + attributes))
            let cookie = line.dropFirst("set-cookie: ".count).prefix { $0 != ";" }
            let again = try ask(proxy, "Cookie: other=1; \(cookie)\r\n")
            #expect(again.id == id && !again.answer.contains("set-cookie"))
        }
        #expect(asked.count > 1)
    }

    @Test func `without a lifetime no cookie is set`() throws {
        let proxy = try proxy(.cookie(name: "stick", path: nil, lifetime: nil))
        #expect(try !ask(proxy, "").answer.contains("set-cookie"))
    }
}
