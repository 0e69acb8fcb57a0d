import EventLoop
import HTTP2
import Linux
import TLS
import TLSTestSupport
import TestSupport
import Testing

@testable import Transport

struct ChannelDataTests {
    @Test(arguments: Wire.allCases, [0, 1, 100, 16_384, 65_536, 1 << 20, 9_000_001])
    func `what is sent comes back whole, and both sides end`(wire: Wire, byteCount: Int) throws {
        let rig = try ChannelRig(wire)
        let stream = try rig.open(SourceStream(byteCount))
        stream.start()
        try rig.until("the echo is complete") { !stream.endings.isEmpty }
        #expect(stream.received == byteCount && stream.isIntact && stream.gotEnd)
        #expect(stream.endings == [.finished])
        #expect(stream.statuses == [200])
        #expect(rig.client.openStreams == 0 && rig.server.openStreams == 0)
        #expect(rig.loop.buffers.borrowedBytes == 0)
        try rig.close()
    }

    @Test(arguments: Wire.allCases) func `copied content is cut to the peer's frames and comes back whole`(
        wire: Wire
    ) throws {
        var small = ChannelConfiguration()
        small.http2.maxFrame = 16_384
        let rig = try ChannelRig(wire, client: small, server: small)
        for usesReserve in [true, false] {
            let stream = SourceStream(3_000_003)
            stream.usesReserve = usesReserve
            _ = try rig.open(stream)
            stream.start()
            try rig.until("the echo is complete") { !stream.endings.isEmpty }
            #expect(stream.received == 3_000_003 && stream.isIntact && stream.endings == [.finished])
        }
        try rig.close()
    }

    @Test(.bothRecordLayers) func `room that was looked at and not used is given back at once`() throws {
        let rig = try ChannelRig(.tls)
        let stream = try rig.open(SourceStream(0))
        rig.settle()
        #expect(rig.loop.buffers.borrowedBytes == 0)
        #expect(unsafe stream.reserve(100_000) != nil)
        #expect(rig.loop.buffers.borrowedBytes > 0)
        stream.commit(0)
        #expect(rig.loop.buffers.borrowedBytes == 0)
        try rig.close()
    }

    @Test(arguments: Wire.allCases) func `many streams at once each get their own bytes back`(wire: Wire)
        throws
    {
        let rig = try ChannelRig(wire)
        var random = SeededGenerator(seed: 7)
        let streams = try (0..<150).map { number in
            let stream = SourceStream(Int.random(in: 0...200_000, using: &random))
            stream.usesReserve = number % 2 == 0
            return try rig.open(stream)
        }
        for stream in streams { stream.start() }
        try rig.until("all are done") { streams.allSatisfy { !$0.endings.isEmpty } }
        #expect(streams.allSatisfy { $0.isIntact && $0.endings == [.finished] && $0.received == $0.sent })
        try rig.close()
    }

    @Test(.bothRecordLayers) func `thousands of streams follow each other on one channel`() throws {
        let rig = try ChannelRig(.tls)
        var done = 0
        while done < 3_000 {
            let streams = try (0..<100).map { _ in try rig.open(SourceStream(10)) }
            for stream in streams { stream.start() }
            try rig.until("a hundred are done") { streams.allSatisfy { !$0.endings.isEmpty } }
            #expect(streams.allSatisfy { $0.endings == [.finished] && $0.received == 10 })
            done += 100
        }
        try rig.close()
    }

    @Test func `streams that want to write get equal shares`() throws {
        let rig = try ChannelRig(.tcp, socketBuffers: 65_536) { _ in CountingStream() }
        var counters: [CountingStream] = []
        rig.serverSide.accept = { _ in
            let stream = CountingStream()
            counters.append(stream)
            return stream
        }
        let sources = try (0..<8).map { _ in try rig.open(SourceStream(64 << 20)) }
        for source in sources { source.start() }
        try rig.until("enough has arrived") { counters.reduce(0) { $0 + $1.count } > 24 << 20 }
        let least = counters.map(\.count).min() ?? 0
        let most = counters.map(\.count).max() ?? 0
        #expect(counters.count == 8)
        #expect(most < least + least / 2 + (1 << 20), "\(least)...\(most)")
        try rig.close()
        #expect(sources.allSatisfy { $0.endings.count == 1 })
    }
}

struct ChannelBackpressureTests {
    @Test(arguments: Wire.allCases)
    func `a stream that is not read stops by its window, and its neighbours go on`(wire: Wire) throws {
        var slow: CountingStream?
        let rig = try ChannelRig(wire)
        rig.serverSide.accept = { _ in
            guard slow == nil else { return EchoStream() }
            let stream = CountingStream()
            stream.consumes = false
            slow = stream
            return stream
        }
        let stuck = try rig.open(SourceStream(9 << 20))
        stuck.start()
        try rig.until("the window is full") { slow?.count == 4 << 20 }
        rig.settle()
        #expect(slow?.count == 4 << 20 && stuck.sent == 4 << 20)
        #expect(rig.client.unsentBytes == 0)
        let other = try rig.open(SourceStream(9_000_000))
        other.start()
        try rig.until("the neighbour is done") { !other.endings.isEmpty }
        #expect(other.isIntact && other.received == 9_000_000)
        slow?.consumes = true
        slow?.consumed(4 << 20)
        try rig.until("the slow one is done") { !stuck.endings.isEmpty }
        #expect(slow?.count == 9 << 20)
        try rig.close()
    }

    @Test(.bothRecordLayers, arguments: [false, true])
    func `a peer that reads nothing makes us hold a bounded number of bytes`(
        isTLS: Bool
    ) throws {
        // The server's channel stops reading because its loop is not turned: two loops, one of them standing still.
        let rig = try Rig()
        let still = try Rig()
        let pair = try tcpPair()
        let near = pair.first
        let far = pair.second
        let (clientSide, serverSide) = (Recorder(), Recorder())
        serverSide.accept = { _ in CountingStream() }
        let certificates = try #require(Certificates.shared)
        let client = try HTTP2Channel.client(
            on: rig.loop, socket: near, tls: isTLS ? try certificates.clientSession() : nil,
            delegate: clientSide)
        let server = try HTTP2Channel.server(
            on: still.loop, socket: far, tls: isTLS ? try certificates.serverSession() : nil,
            delegate: serverSide)
        while clientSide.capacityChanges == 0 || !server.isOpen {
            rig.loop.turn(waitingAtMost: .milliseconds(1))
            still.loop.turn(waitingAtMost: .milliseconds(1))
        }
        let sources = (0..<20).map { _ in SourceStream(1 << 20) }
        for source in sources {
            try client.open(source, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
            source.start()
        }
        rig.settle()
        #expect(client.isBlocked)
        #expect(client.unsentBytes <= BufferPool.Size.giant.rawValue)
        // Sealed or not, it counts against the loop's budget.
        #expect(rig.loop.buffers.borrowedBytes >= client.unsentBytes)
        #expect(rig.loop.buffers.borrowedBytes <= BufferPool.Size.giant.rawValue)
        while sources.contains(where: { $0.endings.isEmpty }) {
            rig.loop.turn(waitingAtMost: .zero)
            still.loop.turn(waitingAtMost: .zero)
        }
        #expect(sources.allSatisfy { $0.endings == [.finished] })
        #expect(rig.loop.buffers.borrowedBytes == 0)
    }

    @Test(.bothRecordLayers)
    func `writers wait while the loop's memory is used up, and go on when it is back`() throws {
        let rig = try ChannelRig(.tls, bufferBudget: 524_288)
        let hoard = unsafe try #require(unsafe rig.loop.buffers.take(.huge))
        let stream = try rig.open(SourceStream(100_000))
        stream.start()
        rig.settle()
        // What had to be said took a small buffer, and content was let into the rest of it.
        #expect(stream.sent < 16_384 && stream.statuses == [200])
        #expect(rig.loop.buffers.refusals > 0)
        unsafe rig.loop.buffers.give(hoard)
        try rig.until("the echo is complete") { !stream.endings.isEmpty }
        #expect(stream.received == 100_000 && stream.isIntact)
        try rig.close()
    }

    @Test(.bothRecordLayers) func `an echo with a slow client holds no more than its window`() throws {
        var echo: EchoStream?
        let rig = try ChannelRig(.tls) { _ in
            let stream = EchoStream()
            echo = stream
            return stream
        }
        let stream = SourceStream(12 << 20)
        stream.consumes = false
        _ = try rig.open(stream)
        stream.start()
        try rig.until("the client's window is full") { stream.received == 4 << 20 }
        rig.settle()
        #expect((echo?.largestWaiting ?? .max) <= 4 << 20)
        #expect(stream.sent <= 9 << 20)
        stream.consumes = true
        stream.consumed(4 << 20)
        try rig.until("the echo is complete") { !stream.endings.isEmpty }
        #expect(stream.received == 12 << 20 && stream.isIntact)
        try rig.close()
    }
}

struct ChannelShareTests {
    @Test func `a channel that moves all it can leaves the loop's other channels their turns`() throws {
        let busy = try ChannelRig(.tcp) { _ in CountingStream() }
        let (clientSide, serverSide) = (Recorder(), Recorder())
        serverSide.accept = { _ in EchoStream() }
        let pair = try tcpPair()
        let near = pair.first
        let far = pair.second
        let client = try HTTP2Channel.client(on: busy.loop, socket: near, tls: nil, delegate: clientSide)
        _ = try HTTP2Channel.server(on: busy.loop, socket: far, tls: nil, delegate: serverSide)
        try busy.until("ready") { clientSide.capacityChanges > 0 }
        let sources = try (0..<4).map { _ in try busy.open(SourceStream(1 << 30)) }
        for source in sources { source.start() }
        for _ in 0..<20 {
            let stream = SourceStream(100)
            try client.open(stream, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
            stream.start()
            var turns = 0
            try busy.until("the small exchange is done") {
                turns += 1
                return !stream.endings.isEmpty
            }
            // A turn for each way, one for each end; the bytes cross the loopback within a few more.
            #expect(turns < 20)
        }
        #expect(sources.allSatisfy { $0.endings.isEmpty && $0.sent > 0 })
        client.close()
        try busy.until("the small one is closed") { busy.loop.registrationCount == 2 }
        try busy.close()
    }
}

struct ChannelEndTests {
    @Test(arguments: Wire.allCases) func `a request with its end gets the whole answer, hundreds of times`(
        wire: Wire
    ) throws {
        let rig = try ChannelRig(wire)
        for round in 0..<300 {
            let stream = try rig.open(SourceStream(round * 37))
            stream.start()
            try rig.until("round \(round) is done") { !stream.endings.isEmpty }
            #expect(stream.received == round * 37 && stream.isIntact && stream.gotEnd)
            #expect(stream.endings == [.finished])
        }
        try rig.close()
    }

    @Test(arguments: Wire.allCases)
    func `the server may end first and still gets every byte, hundreds of times`(
        wire: Wire
    ) throws {
        /// Ends its side with the answer's headers and goes on reading.
        final class EarlyEnd: HTTP2Stream {
            var count = 0
            var endings: [StreamClose] = []
            override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
                sendHeaders(HeaderBlock(status: 200), endStream: true)
            }
            override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
                count += bytes.count
                consumed(bytes.count)
            }
            override func closed(_ reason: StreamClose) { endings.append(reason) }
        }
        var last: EarlyEnd?
        let rig = try ChannelRig(wire) { _ in
            let stream = EarlyEnd()
            last = stream
            return stream
        }
        for round in 0..<300 {
            let stream = try rig.open(SourceStream(round * 101))
            try rig.until("the server has ended") { stream.gotEnd }
            #expect(stream.endings.isEmpty)
            stream.start()
            try rig.until("round \(round) is done") {
                !stream.endings.isEmpty && last?.endings.isEmpty == false
            }
            #expect(
                last?.count == round * 101 && last?.endings == [.finished] && stream.endings == [.finished])
        }
        try rig.close()
    }

    @Test(arguments: Wire.allCases) func `a reset reaches the other side with its code, in both directions`(
        wire: Wire
    ) throws {
        var accepted: [CountingStream] = []
        let rig = try ChannelRig(wire) { _ in
            let stream = CountingStream()
            accepted.append(stream)
            return stream
        }
        for round in 0..<100 {
            let stream = SourceStream(1_000)
            stream.endsWhenSent = false
            _ = try rig.open(stream)
            stream.start()
            try rig.until("the bytes are there") { accepted.last?.count == 1_000 }
            let far = try #require(accepted.last)
            if round % 2 == 0 { stream.reset(.connectError) } else { far.reset(.connectError) }
            try rig.until("both know") { !stream.endings.isEmpty && !far.endings.isEmpty }
            let (reset, cancelled) = (StreamClose.reset(.connectError), StreamClose.cancelled(.connectError))
            #expect(stream.endings == [round % 2 == 0 ? cancelled : reset])
            #expect(far.endings == [round % 2 == 0 ? reset : cancelled])
            accepted.removeAll()
        }
        try rig.close()
    }

    @Test(.bothRecordLayers)
    func `bytes that nobody consumed keep a finished stream open, and a reset gives them back`() throws {
        var far: CountingStream?
        let rig = try ChannelRig(.tls) { _ in
            let stream = CountingStream()
            stream.consumes = false
            far = stream
            return stream
        }
        // 16 MiB is the connection's window: were the bytes of resets not given back, the sixth would get stuck.
        for _ in 0..<8 {
            let stream = try rig.open(SourceStream(3 << 20))
            stream.start()
            try rig.until("all is there") { far?.count == 3 << 20 && far?.isLocalEnded == true }
            rig.settle()
            #expect(far?.endings == [])
            far?.reset(.cancel)
            try rig.until("it is over") { far?.endings.count == 1 && stream.endings.count == 1 }
            far = nil
        }
        try rig.close()
    }

    @Test(arguments: Wire.allCases) func `everything sent before a close arrives`(wire: Wire) throws {
        for _ in 0..<50 {
            var far: CountingStream?
            let rig = try ChannelRig(wire) { _ in
                let stream = CountingStream()
                far = stream
                return stream
            }
            let stream = try rig.open(SourceStream(50_000))
            stream.start()
            rig.client.close()
            try rig.until("both are over") {
                rig.serverSide.closings.count == 1 && rig.clientSide.closings.count == 1
            }
            #expect(far?.count == 50_000)
            #expect(far?.endings.count == 1 && stream.endings.count == 1)
            #expect(rig.clientSide.closings == [.local])
            #expect(rig.serverSide.closings.first?.isOrderly == true, "\(rig.serverSide.closings)")
        }
    }

    @Test(arguments: Wire.allCases) func `a drain lets open streams finish and refuses new ones`(wire: Wire)
        throws
    {
        let rig = try ChannelRig(wire)
        let stream = SourceStream(10)
        stream.endsWhenSent = false
        _ = try rig.open(stream)
        stream.start()
        try rig.until("the echo is there") { stream.received == 10 }
        rig.server.drain()
        try rig.until("the client knows") { !rig.client.canOpenStream }
        #expect(throws: HTTP2Error.goingAway) { try rig.open(SourceStream(1)) }
        rig.settle()
        #expect(rig.serverSide.closings.isEmpty && rig.clientSide.closings.isEmpty)
        stream.finish()
        try rig.until("both are over") {
            rig.serverSide.closings.count == 1 && rig.clientSide.closings.count == 1
        }
        #expect(stream.endings == [.finished])
        #expect(rig.serverSide.closings == [.drained])
        #expect(rig.clientSide.closings.first?.isOrderly == true)
        try rig.until("the sockets are closed") { rig.loop.registrationCount == 0 }
    }

    @Test func `a refused stream says that it was not processed`() throws {
        let rig = try ChannelRig(.unix) { _ in nil }
        let stream = try rig.open(SourceStream(10))
        try rig.until("it is refused") { !stream.endings.isEmpty }
        #expect(stream.endings == [.reset(.refusedStream)])
        try rig.close()
    }

    @Test(arguments: [false, true]) func `a peer that vanishes ends every stream exactly once`(isReset: Bool)
        throws
    {
        let rig = try Rig()
        let pair = try tcpPair()
        let near = pair.first
        let far = pair.second
        let side = Recorder()
        let client = try HTTP2Channel.client(on: rig.loop, socket: near, tls: nil, delegate: side)
        try rig.until("the client is ready") { side.readyCount == 1 }
        let streams = (0..<20).map { _ in SourceStream(1_000) }
        for stream in streams {
            try client.open(stream, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
        }
        rig.settle()
        if isReset { far.reset() } else { far.shutdownWrite() }
        try rig.until("the client knows") { side.closings.count == 1 }
        rig.settle()
        #expect(side.closings == (isReset ? [.socket(104)] : [.peerEnded]))
        #expect(streams.allSatisfy { $0.endings.count == 1 })
        #expect(client.openStreams == 0 && !client.isOpen)
        #expect(throws: HTTP2Error.goingAway) {
            try client.open(SourceStream(1), headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
        }
    }

    @Test(.bothRecordLayers) func `streams and channel may be ended from within any callback`() throws {
        final class Destroyer: HTTP2Stream {
            let action: (HTTP2Stream) -> Void
            var endings = 0
            init(_ action: @escaping (HTTP2Stream) -> Void) { self.action = action }
            override func headersReceived(_ headers: HeaderBlock, endStream: Bool) { action(self) }
            override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) { action(self) }
            override func batchEnded() { action(self) }
            override func writable() { action(self) }
            override func closed(_ reason: StreamClose) {
                endings += 1
                action(self)
            }
        }
        let actions: [(HTTP2Stream) -> Void] = [
            { $0.reset(.cancel) }, { $0.channel?.close() }, { $0.finish() }, { $0.channel?.drain() },
            { $0.sendHeaders(HeaderBlock(status: 200), endStream: true) },
            { $0.consumed($0.unconsumedBytes) },
        ]
        for action in actions {
            var far: [Destroyer] = []
            let rig = try ChannelRig(.tls) { _ in
                let stream = Destroyer(action)
                far.append(stream)
                return stream
            }
            let streams = try (0..<5).map { _ in try rig.open(SourceStream(100_000)) }
            for stream in streams { stream.start() }
            rig.settle()
            rig.client.close()
            try rig.until("all is over") {
                rig.clientSide.closings.count == 1 && rig.serverSide.closings.count == 1
            }
            #expect(streams.allSatisfy { $0.endings.count == 1 })
            #expect(far.allSatisfy { $0.endings == 1 })
        }
    }
}
