import EventLoop
import Glibc
import Linux
import Mesh
import TestSupport
import Testing

@testable import Tunnel

struct PlainRelayTests {
    final class Joined {
        let rig: Rig
        let relay: PlainRelay
        let client: App
        let server: App
        var reasons: [CloseReason] = []

        init(
            buffers: Int32? = nil, budget: Int = 256 << 20, share: Int = TurnShare.byteCount,
            on shared: Rig? = nil
        ) throws {
            rig = try shared ?? Rig(bufferBudget: budget)
            let (nearClient, client) = try rig.pair(buffers: buffers)
            let (nearServer, server) = try rig.pair(buffers: buffers)
            (self.client, self.server) = (client, server)
            relay = try PlainRelay(
                loop: rig.loop, client: nearClient.take(), server: nearServer.take(),
                share: TurnShare(rig.loop, byteCount: share))
            relay.onEnd = { [unowned self] in reasons.append($0) }
            relay.start()
        }

        /// Sends large blocks until the relay has taken that for bulk.
        ///
        /// - Returns: how many bytes.
        @discardableResult
        func makeBulk() throws -> Int {
            var sent = 0
            let block = [UInt8](repeating: 7, count: 1 << 20)
            try until("bulk") {
                if client.hasSentEverything {
                    client.send(block)
                    sent += block.count
                }
                return relay.bulkDirections == 1
            }
            return sent
        }

        func until(_ what: String, _ condition: () -> Bool) throws {
            try rig.until(what) {
                client.step()
                server.step()
                return condition()
            }
        }
    }

    @Test(arguments: 1...150 as ClosedRange<UInt64>)
    func `a half-close passes on its own, in any order, with everything before it`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let joined = try Joined()
        let sizes = [0, 1, 100, 40_000, 700_000]
        let request = [UInt8](repeating: 1, count: sizes.randomElement(using: &random) ?? 0)
        let answer = [UInt8](repeating: 2, count: sizes.randomElement(using: &random) ?? 0)
        switch seed % 3 {
        case 0:
            joined.client.send(request, thenShutDown: true)
            try joined.until("the request's end") { joined.server.ending != nil }
            #expect(joined.server.received == request)
            joined.server.send(answer, thenShutDown: true)
        case 1:
            joined.server.send(answer, thenShutDown: true)
            try joined.until("the answer's end") { joined.client.ending != nil }
            #expect(joined.client.received == answer)
            joined.client.send(request, thenShutDown: true)
        default:
            joined.client.send(request, thenShutDown: true)
            joined.server.send(answer, thenShutDown: true)
        }
        try joined.until("both ends") {
            joined.client.ending != nil && joined.server.ending != nil && !joined.reasons.isEmpty
        }
        #expect(joined.client.ending == 0 && joined.server.ending == 0)
        #expect(joined.client.received == answer && joined.server.received == request)
        #expect(joined.reasons == [.completed])
        #expect(joined.relay.bytesFromClient == request.count && joined.relay.bytesToClient == answer.count)
        #expect(joined.rig.loop.registrationCount == 0 && joined.rig.loop.buffers.borrowedBytes == 0)
    }

    @Test func `bulk is spliced, and comes out as it went in`() throws {
        let joined = try Joined()
        var random = SeededGenerator(seed: 1)
        let block = (0..<1_048_576).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        var wasSpliced = false
        for _ in 0..<16 {
            joined.client.send(block)
            try joined.until("a block sent") { joined.client.hasSentEverything }
            wasSpliced = wasSpliced || joined.relay.bulkDirections == 1
        }
        joined.client.send([], thenShutDown: true)
        try joined.until("the end") { joined.server.ending != nil }
        #expect(wasSpliced)
        #expect(joined.server.received.count == 16 * block.count)
        #expect(
            (0..<16).allSatisfy {
                Array(joined.server.received[($0 * block.count)..<(($0 + 1) * block.count)]) == block
            })
    }

    @Test func `bulk that is over holds no pipe, and small messages behind it are copied again`() throws {
        let joined = try Joined()
        var expected = try joined.makeBulk()
        #expect(joined.relay.bulkDirections == 1)
        try joined.until("everything") { joined.server.received.count == expected }
        #expect(joined.rig.loop.pipes.lentCount == 0 && joined.rig.loop.buffers.borrowedBytes == 0)
        for _ in 0..<100 {
            joined.client.send([1])
            expected += 1
            try joined.until("a message") { joined.server.received.count == expected }
        }
        #expect(joined.relay.bulkDirections == 0)
    }

    @Test func `a bulk connection that breaks leaves no pipe behind`() throws {
        let joined = try Joined(buffers: 262_144)
        try joined.makeBulk()
        joined.server.reads = false
        joined.client.send([UInt8](repeating: 4, count: 8 << 20))
        try joined.until("a full pipe") { joined.relay.heldByteCount > 0 }
        #expect(joined.rig.loop.pipes.lentCount == 1)
        joined.relay.cut(.policyChanged)
        #expect(joined.rig.loop.pipes.lentCount == 0 && joined.relay.heldByteCount == 0)
        #expect(joined.rig.loop.pipes.idleCount == 0, "a pipe with bytes in it was kept")
    }

    @Test func `when the pipes of the loop are lent, bulk is copied`() throws {
        let rig = try Rig(pipeLimit: 1)
        let slow = try Joined(buffers: 262_144, on: rig)
        try slow.makeBulk()
        slow.server.reads = false
        slow.client.send([UInt8](repeating: 4, count: 8 << 20))
        try slow.until("a full pipe") { slow.relay.heldByteCount > 0 }
        let fast = try Joined(buffers: 262_144, on: rig)
        let sent = 64 << 20
        fast.client.send([UInt8](repeating: 5, count: sent), thenShutDown: true)
        try fast.until("everything") { fast.server.ending != nil }
        #expect(fast.server.received.count == sent)
        #expect(rig.loop.pipes.lentCount == 1 && rig.loop.pipes.refusals > 0)
        // Asked for after as much proof as before, not for each read.
        #expect(rig.loop.pipes.refusals < 100)
    }

    @Test(arguments: [false, true])
    func `a workload moves its share in a turn and no more, copied or spliced`(isSpliced: Bool) throws {
        let share = 100_000
        let joined = try Joined(share: share)
        let before = isSpliced ? try joined.makeBulk() : 0
        try joined.until("what made it bulk") { joined.server.received.count == before }
        joined.client.send([UInt8](repeating: 3, count: 4 << 20))
        var turns = 0
        try joined.until("everything") {
            turns += 1
            let arrived = joined.server.received.count - before
            #expect(arrived <= turns * share)
            return arrived == 4 << 20
        }
    }

    @Test func `a reader that stops is waited for with one read in hand`() throws {
        let joined = try Joined(buffers: 32_768)
        joined.server.reads = false
        joined.client.send([UInt8](repeating: 3, count: 8 << 20), thenShutDown: true)
        var highest = 0
        for _ in 0..<500 {
            joined.client.step()
            joined.rig.loop.turn(waitingAtMost: .zero)
            highest = max(highest, joined.relay.heldByteCount)
        }
        #expect(!joined.client.hasSentEverything)
        #expect(highest > 0 && highest <= Scratch.byteCount)
        joined.server.reads = true
        try joined.until("everything") { joined.server.ending != nil }
        #expect(joined.server.received.count == 8 << 20)
    }

    @Test(arguments: [true, false])
    func `a reset stays a reset`(byClient: Bool) throws {
        let joined = try Joined()
        joined.client.send(Array("x".utf8))
        try joined.until("a byte") { joined.server.received.count == 1 }
        (byClient ? joined.client : joined.server).reset()
        let other = byClient ? joined.server : joined.client
        try joined.until("the reset") { other.ending != nil && !joined.reasons.isEmpty }
        #expect(other.ending == ECONNRESET)
        #expect(joined.reasons == [byClient ? .resetByClient : .resetByServer])
    }

    @Test(arguments: 1...40)
    func `an answer before a reset arrives in full`(round: Int) throws {
        let joined = try Joined()
        let answer = [UInt8](repeating: 9, count: 100_000 + round)
        joined.client.send([UInt8](repeating: 1, count: 300_000))
        try joined.until("part of the request") { !joined.server.received.isEmpty }
        // Closing with unread input makes the kernel send a reset behind the answer.
        joined.server.reads = false
        joined.client.send([UInt8](repeating: 1, count: 300_000))
        for _ in 0..<20 { joined.rig.loop.turn(waitingAtMost: .zero) }
        joined.server.send(answer)
        #expect(joined.server.hasSentEverything)
        joined.server.close()
        try joined.until("the end") { joined.client.ending != nil && !joined.reasons.isEmpty }
        #expect(joined.client.received.count == answer.count)
    }

    @Test func `a connection that is cut shows a reset on both sides and the reason once`() throws {
        let joined = try Joined()
        joined.relay.cut(.policyChanged)
        joined.relay.cut(.drained)
        try joined.until("both ends") { joined.client.ending != nil && joined.server.ending != nil }
        #expect(joined.client.ending == ECONNRESET && joined.server.ending == ECONNRESET)
        #expect(joined.reasons == [.policyChanged])
    }

    @Test func `when the loop's memory is used up the connection ends with that reason`() throws {
        let joined = try Joined(buffers: 16_384, budget: 0)
        joined.server.reads = false
        joined.client.send([UInt8](repeating: 3, count: 8 << 20))
        try joined.rig.until("the end") {
            joined.client.step()
            return !joined.reasons.isEmpty
        }
        #expect(joined.reasons == [.limitReached("buffers of the loop")])
    }
}
