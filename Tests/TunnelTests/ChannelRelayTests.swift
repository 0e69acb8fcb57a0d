import EventLoop
import Glibc
import Linux
import Mesh
import TestSupport
import Testing
import Transport

@testable import Tunnel

/// Byte channels of both kinds, joined.
struct ChannelRelayTests {
    enum Path: CaseIterable { case sockets, tunnel }

    /// A client's and a server's application, joined over sockets alone, or over a tunnel with a relay at each end.
    final class Joined {
        let rig: Rig
        let client: App
        let server: App
        /// From the client's side to the server's.
        private(set) var relays: [ChannelRelay] = []
        var reasons: [CloseReason] = []

        init(_ path: Path, buffers: Int32? = nil, budget: Int = 256 << 20, early: [UInt8] = []) throws {
            switch path {
            case .sockets: rig = try Rig(bufferBudget: budget)
            case .tunnel: rig = try TunnelRig(bufferBudget: budget)
            }
            let (nearClient, client) = try rig.pair(buffers: buffers)
            let (nearServer, server) = try rig.pair(buffers: buffers)
            (self.client, self.server) = (client, server)
            let near = SocketChannel(loop: rig.loop, try nearClient.take())
            let far = SocketChannel(loop: rig.loop, try nearServer.take())
            if !early.isEmpty {
                // Somebody has a look at it first, and does not consume it.
                let first = Recorder()
                near.begin(first)
                client.send(early)
                try rig.until("what is looked at") { first.received == early }
            }
            guard let rig = rig as? TunnelRig else {
                join(near, far, early: early)
                return
            }
            rig.holdsRequests = true
            rig.pool.open(rig.target(), context: rig.clientContext) { [unowned self] outcome in
                if case .opened(let stream, _, _) = outcome {
                    join(near, stream, early: early)
                } else {
                    Issue.record("\(outcome)")
                }
            }
            try rig.until("a request") { !rig.requests.isEmpty }
            guard let stream = rig.requests[0].accept() else { throw TestTimeout(what: "a stream") }
            join(stream, far)
            try rig.until("an answer") { relays.count == 2 }
        }

        private func join(_ client: any ByteChannel, _ server: any ByteChannel, early: [UInt8] = []) {
            let relay = ChannelRelay(loop: rig.loop, client: client, server: server)
            relay.onEnd = { [unowned self] in reasons.append($0) }
            relays.append(relay)
            relay.start(early: early)
        }

        func until(_ what: String, _ condition: () -> Bool) throws {
            try rig.until(what) {
                client.step()
                server.step()
                return condition()
            }
        }

        var isOver: Bool { reasons.count == relays.count }
    }

    @Test(arguments: Path.allCases, 1...60 as ClosedRange<UInt64>)
    func `a half-close passes on its own, in any order, with everything before it`(path: Path, seed: UInt64)
        throws
    {
        var random = SeededGenerator(seed: seed)
        let joined = try Joined(path)
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
            // Both ends in one turn.
            joined.client.send(request, thenShutDown: true)
            joined.server.send(answer, thenShutDown: true)
        }
        try joined.until("both ends") {
            joined.client.ending != nil && joined.server.ending != nil && joined.isOver
        }
        #expect(joined.client.ending == 0 && joined.server.ending == 0)
        #expect(joined.client.received == answer && joined.server.received == request)
        for relay in joined.relays {
            #expect(relay.bytesFromClient == request.count && relay.bytesToClient == answer.count)
        }
        #expect(joined.reasons.allSatisfy { $0 == .completed })
        guard path == .sockets else { return }
        try joined.until("closed sockets") { joined.rig.loop.registrationCount == 0 }
        #expect(joined.rig.loop.buffers.borrowedBytes == 0)
    }

    @Test(arguments: Path.allCases) func `what came to somebody else before goes first`(path: Path) throws {
        let joined = try Joined(path, early: Array("before, ".utf8))
        joined.client.send(Array("after".utf8), thenShutDown: true)
        try joined.until("the end") { joined.server.ending == 0 }
        #expect(joined.server.received == Array("before, after".utf8))
    }

    @Test(arguments: Path.allCases) func `a reader that stops is waited for within the windows`(path: Path)
        throws
    {
        let joined = try Joined(path, buffers: 32_768)
        joined.server.reads = false
        let sent = 24 << 20
        joined.client.send([UInt8](repeating: 3, count: sent), thenShutDown: true)
        var highest = 0
        for _ in 0..<2_000 {
            joined.client.step()
            joined.rig.loop.turn(waitingAtMost: .zero)
            highest = max(highest, joined.relays.map(\.heldByteCount).max() ?? 0)
        }
        #expect(!joined.client.hasSentEverything)
        // A stream's window is the tunnel's 4 MiB, a socket's is its own.
        #expect(highest > 0 && highest <= (path == .sockets ? SocketChannel.window : 4 << 20))
        joined.server.reads = true
        try joined.until("everything") { joined.server.ending != nil }
        #expect(joined.server.received.count == sent)
        joined.server.send(Array("done".utf8), thenShutDown: true)
        try joined.until("the end") { joined.isOver && joined.client.ending == 0 }
        #expect(joined.client.received == Array("done".utf8))
    }

    @Test(arguments: Path.allCases, [true, false]) func `a reset stays a reset`(path: Path, byClient: Bool)
        throws
    {
        let joined = try Joined(path)
        joined.client.send(Array("x".utf8))
        try joined.until("a byte") { joined.server.received.count == 1 }
        (byClient ? joined.client : joined.server).reset()
        let other = byClient ? joined.server : joined.client
        try joined.until("the reset") { other.ending != nil && joined.isOver }
        #expect(other.ending == ECONNRESET)
        #expect(joined.reasons.allSatisfy { $0 == (byClient ? .resetByClient : .resetByServer) })
    }

    @Test(arguments: Path.allCases, 1...10) func `an answer before a reset arrives in full`(
        path: Path, round: Int
    ) throws {
        let joined = try Joined(path)
        let answer = [UInt8](repeating: 9, count: 100_000 + round)
        joined.client.send([UInt8](repeating: 1, count: 300_000))
        try joined.until("part of the request") { !joined.server.received.isEmpty }
        // Closing with unread input makes the kernel send a reset behind the answer.
        joined.server.reads = false
        joined.client.send([UInt8](repeating: 1, count: 300_000))
        for _ in 0..<50 { joined.rig.loop.turn(waitingAtMost: .zero) }
        joined.server.send(answer)
        #expect(joined.server.hasSentEverything)
        joined.server.close()
        try joined.until("the end") { joined.client.ending != nil && joined.isOver }
        #expect(joined.client.received.count == answer.count)
    }

    @Test(arguments: Path.allCases) func `a connection that is cut shows a reset on both sides`(path: Path)
        throws
    {
        let joined = try Joined(path)
        joined.relays[0].cut(.policyChanged)
        joined.relays[0].cut(.drained)
        try joined.until("both ends") {
            joined.client.ending != nil && joined.server.ending != nil && joined.isOver
        }
        #expect(joined.client.ending == ECONNRESET && joined.server.ending == ECONNRESET)
        #expect(joined.reasons.first == .policyChanged)
    }

    @Test func `when the loop's memory is used up the connection waits, and goes on when there is some`()
        throws
    {
        let joined = try Joined(.sockets, buffers: 16_384, budget: 600_000)
        let pool = joined.rig.loop.buffers
        let hog = unsafe try #require(pool.take(.huge))
        joined.client.send([UInt8](repeating: 3, count: 1 << 20), thenShutDown: true)
        for _ in 0..<100 {
            joined.client.step()
            joined.rig.loop.turn(waitingAtMost: .zero)
        }
        unsafe pool.give(hog)
        try joined.until("the end") { joined.server.ending != nil || !joined.reasons.isEmpty }
        // What does not fit in memory ends the connection with that reason; it never stalls.
        #expect(
            joined.server.received.count == 1 << 20
                || joined.reasons == [.limitReached("buffers of the loop")])
    }

    /// What a channel tells.
    final class Recorder: ByteChannelDelegate {
        var received: [UInt8] = []
        var batches = 0
        var hasEnded = false
        var closes: [ByteChannelClose] = []
        var writableCount = 0
        func received(_ bytes: UnsafeRawBufferPointer) { unsafe received += bytes }
        func batchEnded() { batches += 1 }
        func writable() { writableCount += 1 }
        func remoteEnded() { hasEnded = true }
        func closed(_ reason: ByteChannelClose) { closes.append(reason) }
    }

    @Test func `closing in peace delivers everything though the peer still sends`() throws {
        let rig = try Rig()
        let (near, far) = try rig.pair(buffers: 16_384)
        let channel = SocketChannel(loop: rig.loop, try near.take())
        let recorder = Recorder()
        channel.begin(recorder)
        let words = [UInt8](repeating: 5, count: 200_000)
        #expect(unsafe words.withUnsafeBytes { unsafe channel.send($0) } == words.count)
        far.send([UInt8](repeating: 1, count: 100_000))
        channel.close()
        try rig.until("the end") {
            far.step()
            return far.ending != nil
        }
        #expect(far.ending == 0 && far.received == words)
        #expect(recorder.closes == [.local])
        far.close()
        try rig.until("a closed socket") { rig.loop.registrationCount == 0 }
        #expect(rig.loop.buffers.borrowedBytes == 0)
    }

    @Test func `who hangs up while nobody takes what it sent makes the loop no work`() throws {
        let rig = try Rig()
        let (near, far) = try rig.pair()
        let channel = SocketChannel(loop: rig.loop, try near.take())
        let recorder = Recorder()
        channel.begin(recorder)
        far.send([UInt8](repeating: 1, count: SocketChannel.window))
        try rig.until("a full window") {
            far.step()
            return recorder.received.count == SocketChannel.window
        }
        far.send([2])
        far.reset()
        for _ in 0..<10 { rig.loop.turn(waitingAtMost: .zero) }
        #expect(rig.loop.registrationCount == 0, "a hangup is still watched for")
        channel.consumed(SocketChannel.window)
        try rig.until("the reset") { !recorder.closes.isEmpty }
        #expect(recorder.closes == [.reset])
    }

    @Test func `a channel that has no room says when it has`() throws {
        let rig = try Rig()
        let (near, far) = try rig.pair(buffers: 16_384)
        let channel = SocketChannel(loop: rig.loop, try near.take())
        let recorder = Recorder()
        channel.begin(recorder)
        let block = [UInt8](repeating: 7, count: 1 << 20)
        let taken = unsafe block.withUnsafeBytes { unsafe channel.send($0) }
        #expect(taken < block.count && taken <= SocketChannel.sendLimit + 65_536)
        #expect(recorder.writableCount == 0)
        try rig.until("room") {
            far.step()
            return recorder.writableCount > 0
        }
        try rig.until("everything that was taken") {
            far.step()
            return far.received.count == taken
        }
    }
}
