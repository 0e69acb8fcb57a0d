import Address
import Mesh
import TestSupport
import Testing

@testable import Tunnel

struct PoolTableTests {
    static func key(_ number: UInt16 = 1) throws -> TunnelKey {
        let source = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")
        let server = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "bob")
        return try TunnelKey(
            source: source, expected: [server],
            address: #require(SocketAddress("10.0.0.1:\(number)")))
    }

    private func table(
        streams: Int = 2, tunnels: Int = 3, waiters: Int = 100, idle: UInt64 = 1_000
    ) -> PoolTable {
        PoolTable(
            PoolTable.Limits(streamsPerTunnel: streams, tunnelsPerKey: tunnels, waiters: waiters, idle: idle))
    }

    @Test func `the first connection makes a tunnel and the next ones wait for it`() throws {
        let key = try Self.key()
        var table = table()
        #expect(table.request(1, key, generation: 1) == [.connect(1, key)])
        #expect(table.request(2, key, generation: 1) == [])
        #expect(table.ready(1, capacity: 100, now: 0) == [.open(1, on: 1), .open(2, on: 1)])
        #expect(table.waiterCount == 0)
    }

    @Test func `a full tunnel is joined by another, and has room again when a stream ends`() throws {
        let key = try Self.key()
        var table = table()
        _ = table.request(1, key, generation: 1)
        _ = table.request(2, key, generation: 1)
        #expect(table.request(3, key, generation: 1) == [.connect(2, key)])
        _ = table.ready(1, capacity: 100, now: 0)
        #expect(table.streamEnded(1, now: 5) == [.open(3, on: 1)])
        #expect(table.ready(2, capacity: 100, now: 6) == [])
        #expect(table.request(4, key, generation: 1) == [.open(4, on: 2)])
    }

    @Test func `a congested tunnel takes no more connections until it is free again`() throws {
        let key = try Self.key()
        var table = table(streams: 10)
        _ = table.request(1, key, generation: 1)
        _ = table.ready(1, capacity: 100, now: 0)
        table.note(1, isCongested: true)
        #expect(table.request(2, key, generation: 1) == [.connect(2, key)])
        #expect(table.ready(2, capacity: 100, now: 1) == [.open(2, on: 2)])
        table.note(1, isCongested: false)
        #expect(table.request(3, key, generation: 1) == [.open(3, on: 1)])
    }

    @Test func `the peer's limit counts when it is lower`() throws {
        let key = try Self.key()
        var table = table(streams: 10)
        for waiter in 1...3 as ClosedRange<UInt64> { _ = table.request(waiter, key, generation: 1) }
        #expect(table.ready(1, capacity: 1, now: 0) == [.open(1, on: 1), .connect(2, key)])
        #expect(table.ready(2, capacity: 1, now: 0) == [.open(2, on: 2), .connect(3, key)])
    }

    @Test func `a failed tunnel fails its waiters at once and nobody else`() throws {
        let (key, other) = (try Self.key(1), try Self.key(2))
        var table = table()
        _ = table.request(1, key, generation: 1)
        _ = table.request(2, key, generation: 1)
        _ = table.request(3, other, generation: 1)
        let (failed, actions) = table.closed(1)
        #expect(failed == [1, 2] && actions == [])
        #expect(table.keyCount == 1 && table.waiterCount == 1)
        #expect(table.request(4, key, generation: 1) == [.connect(3, key)])
    }

    @Test func `those who wait for room are served elsewhere when their tunnel dies`() throws {
        let key = try Self.key()
        var table = table(streams: 1, tunnels: 1)
        _ = table.request(1, key, generation: 1)
        _ = table.ready(1, capacity: 1, now: 0)
        #expect(table.request(2, key, generation: 1) == [])
        #expect(table.closed(1).actions == [.connect(2, key)])
        #expect(table.ready(2, capacity: 1, now: 0) == [.open(2, on: 2)])
    }

    @Test func `a tunnel that leaves takes no more connections and keeps those it has`() throws {
        let key = try Self.key()
        var table = table()
        _ = table.request(1, key, generation: 1)
        _ = table.ready(1, capacity: 2, now: 0)
        #expect(table.leave(1) == [.drain(1)])
        #expect(table.leave(1) == [])
        #expect(table.request(2, key, generation: 1) == [.connect(2, key)])
        #expect(table.streams(of: 1) == 1)
        _ = table.streamEnded(1, now: 1)
        _ = table.closed(1)
        #expect(table.tunnelCount == 1)
    }

    @Test func `a new certificate makes new tunnels`() throws {
        let key = try Self.key()
        var table = table()
        _ = table.request(1, key, generation: 1)
        _ = table.ready(1, capacity: 2, now: 0)
        #expect(table.request(2, key, generation: 2) == [.drain(1), .connect(2, key)])
        #expect(table.ready(2, capacity: 2, now: 0) == [.open(2, on: 2)])
    }

    @Test func `who need not wait takes a tunnel at once, and nobody passes those who wait`() throws {
        let key = try Self.key()
        var table = table()
        #expect(table.take(key, generation: 1) == nil)
        _ = table.request(1, key, generation: 1)
        #expect(table.take(key, generation: 1) == nil)
        _ = table.ready(1, capacity: 100, now: 0)
        #expect(table.take(key, generation: 2) == nil)
        #expect(table.take(key, generation: 1) == 1)
        #expect(table.streams(of: 1) == 2)
        #expect(table.take(key, generation: 1) == nil)
        _ = table.request(2, key, generation: 1)
        _ = table.request(3, key, generation: 1)
        _ = table.request(4, key, generation: 1)
        #expect(table.ready(2, capacity: 100, now: 1) == [.open(2, on: 2), .open(3, on: 2)])
        #expect(table.streamEnded(1, now: 2) == [.open(4, on: 1)])
        #expect(table.take(key, generation: 1) == nil)
    }

    @Test func `an idle tunnel goes after its time, not before`() throws {
        let key = try Self.key()
        var table = table()
        _ = table.request(1, key, generation: 1)
        _ = table.ready(1, capacity: 2, now: 0)
        #expect(table.expire(now: 5_000) == [])
        _ = table.streamEnded(1, now: 5_000)
        #expect(table.hasIdle)
        #expect(table.expire(now: 5_999) == [])
        #expect(table.expire(now: 6_000) == [.drain(1)])
        _ = table.closed(1)
        #expect(table.keyCount == 0 && table.tunnelCount == 0)
    }

    @Test func `without an idle time a tunnel of one connection ends with it, whoever waits`() throws {
        let key = try Self.key()
        var table = table(streams: 1, idle: 0)
        #expect(table.request(1, key, generation: 1) == [.connect(1, key)])
        #expect(table.ready(1, capacity: 100, now: 0) == [.open(1, on: 1)])
        #expect(table.request(2, key, generation: 1) == [.connect(2, key)])
        #expect(table.streamEnded(1, now: 5) == [.drain(1)])
        #expect(table.ready(2, capacity: 100, now: 6) == [.open(2, on: 2)])
        _ = table.closed(1)
        #expect(table.streamEnded(2, now: 7) == [.drain(2)])
        _ = table.closed(2)
        #expect(table.keyCount == 0 && table.tunnelCount == 0)
    }

    @Test func `waiters are bounded`() throws {
        let key = try Self.key()
        var table = table(streams: 100, waiters: 2)
        _ = table.request(1, key, generation: 1)
        _ = table.request(2, key, generation: 1)
        #expect(table.request(3, key, generation: 1) == [.refuse(3)])
        table.cancel(1)
        #expect(table.request(4, key, generation: 1) == [])
    }

    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func `no stream is counted twice, no waiter forgotten, no key left behind`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var table = table(streams: Int.random(in: 1...3, using: &random), tunnels: 2, waiters: 20)
        let keys = try (1...3).map { try Self.key($0) }
        var nextWaiter: UInt64 = 1
        var waiting: Set<UInt64> = []
        var connecting: Set<UInt64> = []
        var alive: Set<UInt64> = []
        var streams: [UInt64: Int] = [:]

        func take(_ actions: [PoolTable.Action]) {
            for action in actions {
                switch action {
                case .connect(let id, _):
                    connecting.insert(id)
                    alive.insert(id)
                case .open(let waiter, let id):
                    #expect(waiting.remove(waiter) != nil)
                    #expect(alive.contains(id) && !connecting.contains(id))
                    streams[id, default: 0] += 1
                case .refuse(let waiter): waiting.remove(waiter)
                case .drain(let id): #expect(alive.contains(id))
                }
            }
        }

        for now in 0..<2_000 as Range<UInt64> {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4:
                let key = keys[Int.random(in: 0..<3, using: &random)]
                if Bool.random(using: &random), let id = table.take(key, generation: now / 500) {
                    #expect(alive.contains(id) && !connecting.contains(id))
                    streams[id, default: 0] += 1
                } else {
                    waiting.insert(nextWaiter)
                    take(table.request(nextWaiter, key, generation: now / 500))
                    nextWaiter += 1
                }
            case 4:
                guard let id = connecting.randomElement(using: &random) else { continue }
                connecting.remove(id)
                take(table.ready(id, capacity: Int.random(in: 1...4, using: &random), now: now))
            case 5..<7:
                guard let id = streams.filter({ $0.value > 0 }).keys.sorted().randomElement(using: &random)
                else {
                    continue
                }
                streams[id, default: 1] -= 1
                take(table.streamEnded(id, now: now))
            case 7:
                guard let id = alive.sorted().randomElement(using: &random) else { continue }
                alive.remove(id)
                connecting.remove(id)
                streams[id] = nil
                let (failed, actions) = table.closed(id)
                waiting.subtract(failed)
                take(actions)
            case 8: take(table.expire(now: now))
            default:
                guard let waiter = waiting.sorted().randomElement(using: &random) else { continue }
                waiting.remove(waiter)
                table.cancel(waiter)
            }
            #expect(table.waiterCount == waiting.count && table.tunnelCount == alive.count)
            for (id, count) in streams { #expect(table.streams(of: id) == count) }
        }
        for waiter in waiting { table.cancel(waiter) }
        for id in alive { _ = table.closed(id) }
        #expect(table.keyCount == 0 && table.tunnelCount == 0 && table.waiterCount == 0)
    }
}
