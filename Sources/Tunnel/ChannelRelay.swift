import EventLoop
import Mesh

/// Joins two byte channels, whatever they are, until both directions have ended.
///
/// What one brings is copied once, into what the other sends. What that does not take waits in memory of the loop's and counts against the
/// window of who sent it: a slow side stops its peer and nothing else.
public final class ChannelRelay: Relay {
    private let client: RelayEnd
    private let server: RelayEnd
    /// How one side broke while its last bytes were waiting for the other.
    private var lateCause: CloseReason?

    /// - Parameters:
    ///   - client: of whoever opened the connection; begun or not.
    ///   - server: connected.
    public init(loop: EventLoop, client: any ByteChannel, server: any ByteChannel) {
        self.client = RelayEnd(.client, client, loop)
        self.server = RelayEnd(.server, server, loop)
        super.init(loop: loop)
    }

    /// Begins to relay, with what the channels have brought before.
    ///
    /// - Parameter early: what the client has sent to whoever had its channel before, not consumed.
    public func start(early: [UInt8] = []) {
        client.relay = self
        server.relay = self
        if !early.isEmpty { unsafe early.withUnsafeBytes { unsafe received($0, from: client) } }
        client.channel.begin(client)
        if !machine.isOver { server.channel.begin(server) }
    }

    /// Bytes that wait for either side.
    public var heldByteCount: Int { client.backlog.byteCount + server.backlog.byteCount }

    private func end(_ side: RelayMachine.Side) -> RelayEnd { side == .client ? client : server }

    // MARK: What the ends report

    fileprivate func received(_ bytes: UnsafeRawBufferPointer, from source: RelayEnd) {
        guard machine.isSending(source.side) else { return source.channel.consumed(bytes.count) }
        count(from: source.side, bytes.count)
        let target = end(source.side.other)
        var sent = 0
        if target.backlog.isEmpty {
            sent = unsafe target.channel.send(bytes)
            source.channel.consumed(sent)
        }
        guard sent < bytes.count, !machine.isOver else { return }
        if unsafe !target.backlog.append(UnsafeRawBufferPointer(rebasing: bytes[sent...])) {
            TunnelMetrics.shared.bufferRefusals.add()
            carryOut(machine.end(.limitReached("buffers of the loop")))
        }
    }

    fileprivate func writable(_ target: RelayEnd) {
        guard !machine.isOver, !target.backlog.isEmpty else { return }
        let sent = target.flush()
        end(target.side.other).channel.consumed(sent)
        if sent > 0, lateCause != nil { loop.schedule(patience, after: Relay.deliveryPatience) }
        guard target.backlog.isEmpty, !machine.isOver else { return }
        carryOut(lateCause.map { machine.end($0) } ?? machine.delivered(to: target.side))
    }

    fileprivate func remoteEnded(_ source: RelayEnd) {
        carryOut(machine.ended(source.side, isDelivered: end(source.side.other).backlog.isEmpty))
    }

    fileprivate func closed(_ source: RelayEnd, _ reason: ByteChannelClose) {
        guard !machine.isOver else { return }
        switch reason {
        case .finished, .local: break
        case .declined:
            carryOut(machine.ended(source.side, isDelivered: end(source.side.other).backlog.isEmpty))
            // What still comes for it has nobody to take it.
            source.backlog.clear()
            carryOut(machine.ended(source.side.other, isDelivered: true))
            carryOut(machine.delivered(to: source.side))
        case .reset: broke(source, source.side == .client ? .resetByClient : .resetByServer)
        case .failed(let what): broke(source, .failed(what))
        }
    }

    /// What came before the end is delivered, then the other side sees a reset.
    private func broke(_ source: RelayEnd, _ cause: CloseReason) {
        guard !end(source.side.other).backlog.isEmpty else { return carryOut(machine.end(cause)) }
        lateCause = cause
        loop.schedule(patience, after: Relay.deliveryPatience)
    }

    private lazy var patience = CallbackTimer { [unowned self] in
        if let lateCause { carryOut(machine.end(lateCause)) }
    }

    // MARK: Ending

    override func finish(_ side: RelayMachine.Side) { end(side).channel.finish() }

    override func release(_ reason: CloseReason) {
        loop.cancel(patience)
        for end in [client, server] {
            end.relay = nil
            end.backlog.clear()
            guard end.channel.isOpen else { continue }
            if reason != .completed {
                end.channel.abort(reason)
            } else if !end.channel.isRemoteEnded {
                end.channel.close()
            }
        }
    }
}

/// One channel of a relay, and what waits for it.
private final class RelayEnd: ByteChannelDelegate {
    let side: RelayMachine.Side
    let channel: any ByteChannel
    var backlog: Backlog
    /// Set while the relay runs; the channel holds this end, and this end the relay.
    var relay: ChannelRelay?

    init(_ side: RelayMachine.Side, _ channel: any ByteChannel, _ loop: EventLoop) {
        self.side = side
        self.channel = channel
        backlog = Backlog(pool: loop.buffers)
    }

    func flush() -> Int { unsafe backlog.drain { unsafe channel.send($0) } }

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard let relay else { return channel.consumed(bytes.count) }
        unsafe relay.received(bytes, from: self)
    }

    func batchEnded() {}
    func writable() { relay?.writable(self) }
    func remoteEnded() { relay?.remoteEnded(self) }
    func closed(_ reason: ByteChannelClose) { relay?.closed(self, reason) }
}
