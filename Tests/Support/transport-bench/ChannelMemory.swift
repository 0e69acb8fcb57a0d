import EventLoop
import HTTP2
import Linux
import Metrics
import TLS
import Transport

/// What channels hold when nothing is under way: both ends on one loop, each after an exchange on a stream.
struct ChannelMemory {
    let loop: EventLoop
    let client: TLSContext
    let server: TLSContext
    private static let pairs = 50

    init(_ sessions: SessionPair) throws {
        loop = try EventLoop(name: "memory", registry: Registry())
        (client, server) = (sessions.client, sessions.server)
    }

    /// Bytes of heap that an end of an idle channel takes. What is made once for all channels is not among them.
    func bytesPerEnd() throws -> Int {
        let sides = (near: Side(), far: Side())
        try open(Self.pairs, sides)
        let before = allocatedByteCount()
        try open(Self.pairs, sides)
        return (allocatedByteCount() - before) / (2 * Self.pairs)
    }

    private func open(_ count: Int, _ sides: (near: Side, far: Side)) throws {
        let served = sides.near.finished + count
        for _ in 0..<count {
            let pair = try Socket.pair()
            let session = try TLSSession(client, expecting: ["spiffe://cluster.local/ns/bench/sa/server"])
            sides.near.channels.append(
                try HTTP2Channel.client(on: loop, socket: pair.first, tls: session, delegate: sides.near))
            _ = try HTTP2Channel.server(
                on: loop, socket: pair.second, tls: try TLSSession(server), delegate: sides.far)
        }
        while sides.near.finished < served { loop.turn(waitingAtMost: .seconds(1)) }
        // What the last exchange left behind is let go of in the turns after it.
        for _ in 0..<10 { loop.turn(waitingAtMost: .zero) }
        precondition(loop.buffers.borrowedBytes == 0, "an idle channel holds a buffer")
    }
}

/// Opens a stream when its channel is ready, and echoes at the other end.
private final class Side: HTTP2ChannelDelegate {
    var channels: [HTTP2Channel] = []
    var finished = 0

    func channelReady(_ channel: HTTP2Channel) {
        guard channel.role == .client else { return }
        let stream = Exchange { self.finished += 1 }
        do {
            try channel.open(stream, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
        } catch {
            fatalError("a new channel took no stream: \(error)")
        }
        stream.start()
    }

    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        Echo()
    }
    func channelCapacityChanged(_ channel: HTTP2Channel) {}
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) { fatalError("closed: \(reason)") }
}

/// 8 KiB there and back, well within what any window holds.
private final class Exchange: HTTP2Stream {
    private let ended: () -> Void

    init(ended: @escaping () -> Void) {
        self.ended = ended
    }

    func start() {
        let content = [UInt8](repeating: 1, count: 8_192)
        let sent = unsafe content.withUnsafeBytes { unsafe send($0, endStream: true) }
        precondition(sent == content.count, "a new stream's window was full")
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) { consumed(bytes.count) }
    override func closed(_ reason: StreamClose) {
        precondition(reason == .finished, "\(reason)")
        ended()
    }
}

private final class Echo: HTTP2Stream {
    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        sendHeaders(HeaderBlock(status: 200), endStream: false)
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        let sent = unsafe send(bytes, endStream: endStream)
        precondition(sent == bytes.count, "a new stream's window was full")
        consumed(bytes.count)
    }
}
