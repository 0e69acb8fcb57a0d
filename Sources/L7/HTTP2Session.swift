import EventLoop
import HTTP2
import Linux
import Mesh
import Tunnel

/// HTTP/2 with prior knowledge (RFC 9113 §3.3) on a byte channel, on either side: the driver of the pure machine.
final class HTTP2Session: Pollable, ByteChannelDelegate {
    /// Whom a session tells.
    enum Owner {
        case server(HTTPService, ClientContext)
        case client(EndpointPool)
    }

    private let owner: Owner
    private let loop: EventLoop
    let channel: any ByteChannel
    private var connection: HTTP2Connection
    private var streams: [StreamID: HTTP2MessageStream] = [:]
    /// Streams that wait for room on the channel, in order.
    private var waiting: ContiguousArray<HTTP2MessageStream> = []
    private var isOver = false
    private var isDraining = false
    /// Of the channel's window, taken up as long as the peer does not read.
    private var unconsumedBytes = 0
    private(set) var requestCount = 0
    private(set) var idleSince = MonotonicTime(nanoseconds: 0)
    private lazy var deadline = CallbackTimer { [weak self] in self?.deadlinePassed() }

    private static let frameHeader = 9
    /// Frames of the machine's that may wait before no more is read.
    private static let unreadLimit = 64 << 10
    /// What one stream sends while others wait.
    private static let quantum = 64 << 10

    init(_ owner: Owner, _ loop: EventLoop, _ channel: any ByteChannel, _ configuration: HTTP2Configuration) {
        self.owner = owner
        self.loop = loop
        self.channel = channel
        switch owner {
        case .server: connection = HTTP2Connection(role: .server, configuration)
        case .client: connection = HTTP2Connection(role: .client, configuration)
        }
        super.init()
    }

    func start(early: [UInt8] = []) {
        if case .server(let service, _) = owner {
            service.opened(self)
            loop.schedule(deadline, after: service.configuration.headDeadline)
        }
        loop.atEndOfTurn(self)
        if !early.isEmpty { unsafe early.withUnsafeBytes { unsafe received($0) } }
        if !isOver { channel.begin(self) }
    }

    // MARK: Clients

    var canOpenStream: Bool { !isOver && !isDraining && channel.isOpen && connection.canOpenStream }
    var isIdle: Bool { streams.isEmpty }

    /// A stream for a request, which its `sendHead` opens.
    func makeStream(_ delegate: any MessageStreamDelegate) -> HTTP2MessageStream {
        requestCount += 1
        return HTTP2MessageStream(self, delegate)
    }

    /// Takes no new streams, and ends with the last one.
    func drain() {
        guard !isDraining, !isOver else { return }
        isDraining = true
        connection.drain()
        loop.atEndOfTurn(self)
        endIfDrained()
    }

    // MARK: What comes

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !isOver else { return channel.consumed(bytes.count) }
        // Held content is bounded by the windows of HTTP/2, so the channel's are open again at once; but not for a peer that does not read
        // what we have to say.
        if connection.pending.count < Self.unreadLimit {
            channel.consumed(bytes.count)
        } else {
            unconsumedBytes += bytes.count
        }
        connection.now = Int64(truncatingIfNeeded: loop.now.nanoseconds / 1_000_000_000)
        var offset = 0
        do throws(HTTP2Error) {
            while !isOver, let event = try unsafe connection.next(bytes, &offset) {
                unsafe handle(event, bytes)
            }
        } catch {
            if case .server(let service, _) = owner { service.metrics.refusedConnections.add() }
            end(.malformed("\(error)"), inPeace: true)
        }
        if !isOver { loop.atEndOfTurn(self) }
    }

    func batchEnded() {}

    private func handle(_ event: HTTP2Event, _ bytes: UnsafeRawBufferPointer) {
        switch event {
        case .headers(let id, let head, let endStream):
            guard let stream = streams[id] else { return accept(id, head, endStream: endStream) }
            stream.isRemoteEnded = endStream
            stream.headReceived(head, endStream: endStream)
        case .trailers(let id, let trailers):
            guard let stream = streams[id] else { return }
            stream.isRemoteEnded = true
            stream.delegate?.ended(trailers)
        case .data(let id, let range, let endStream):
            guard let stream = streams[id] else { return connection.consumed(id, range.count) }
            if !range.isEmpty { unsafe stream.received(UnsafeRawBufferPointer(rebasing: bytes[range])) }
            if endStream {
                stream.isRemoteEnded = true
                stream.delegate?.ended(HeaderBlock())
            }
        case .reset(let id, let code):
            guard let stream = forget(id) else { return }
            stream.close(code == .refusedStream ? .refused : .reset(code))
        case .windowOpened(0), .settingsReceived:
            for stream in streams.values where stream.isWindowBlocked { wake(stream) }
            if case .client(let pool) = owner { pool.capacityChanged() }
        case .windowOpened(let id):
            if let stream = streams[id], stream.isWindowBlocked { wake(stream) }
        case .goAway:
            isDraining = true
            if case .client(let pool) = owner { pool.left(self) }
            loop.atEndOfTurn(self)
        case .pong, .settingsAcknowledged: break
        }
    }

    private func accept(_ id: StreamID, _ head: HeaderBlock, endStream: Bool) {
        guard case .server(let service, let client) = owner else {
            return connection.reset(id, .protocolError)
        }
        loop.cancel(deadline)
        let stream = HTTP2MessageStream(self, nil)
        stream.id = id
        stream.isRemoteEnded = endStream
        streams[id] = stream
        requestCount += 1
        let exchange = Exchange(service, client, stream, httpVersion: .http2)
        stream.delegate = exchange
        exchange.begin(head, endStream: endStream)
    }

    func remoteEnded() { end(.disconnected, inPeace: true) }

    func closed(_ reason: ByteChannelClose) { end(.disconnected, inPeace: false) }

    // MARK: What goes

    fileprivate func open(_ stream: HTTP2MessageStream, _ head: HeaderBlock, endStream: Bool) {
        guard !isOver else { return stream.close(.disconnected) }
        guard !head.contains(":protocol") || connection.peerEnablesConnectProtocol else {
            return stream.close(.malformed("the endpoint does not take extended CONNECT"))
        }
        do throws(HTTP2Error) {
            stream.id = try connection.openStream(head, endStream: endStream)
            streams[stream.id] = stream
            stream.isLocalEnded = endStream
            loop.atEndOfTurn(self)
        } catch { stream.close(.refused) }
    }

    fileprivate func sendHead(_ stream: HTTP2MessageStream, _ head: HeaderBlock, endStream: Bool) {
        guard !isOver else { return }
        connection.sendHeaders(stream.id, head, endStream: endStream)
        if endStream { stream.isLocalEnded = true }
        loop.atEndOfTurn(self)
    }

    fileprivate func send(_ stream: HTTP2MessageStream, _ bytes: UnsafeRawBufferPointer) -> Int {
        guard !isOver, !stream.isLocalEnded else { return bytes.count }
        var sent = 0
        while sent < bytes.count {
            let window = connection.window(of: stream.id)
            guard window > 0 else {
                stream.isWindowBlocked = true
                break
            }
            if sent >= Self.quantum, !waiting.isEmpty {
                queue(stream)
                break
            }
            guard flushFrames() else {
                queue(stream)
                break
            }
            let wanted = min(bytes.count - sent, window, connection.largestContent)
            guard let area = unsafe channel.reserve(wanted + Self.frameHeader) else {
                queue(stream)
                break
            }
            let count = min(wanted, area.count - Self.frameHeader)
            guard count > 0 else {
                // Not even a frame's header fits: the windows below are nearly closed, and open in larger steps.
                channel.commit(0)
                queue(stream)
                loop.schedule(crumbTimer, after: .milliseconds(1))
                break
            }
            unsafe connection.frameData(stream.id, byteCount: count, endStream: false, header: area)
            unsafe UnsafeMutableRawBufferPointer(rebasing: area[Self.frameHeader...])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[sent..<sent + count]))
            channel.commit(Self.frameHeader + count)
            sent += count
        }
        return sent
    }

    private lazy var crumbTimer = CallbackTimer { [weak self] in self?.writable() }

    fileprivate func sendEnd(_ stream: HTTP2MessageStream, _ trailers: HeaderBlock) {
        guard !isOver, !stream.isLocalEnded else { return }
        if trailers.isEmpty {
            // As a frame of the machine's: it goes behind the stream's content, which is sent already, and needs no window.
            connection.endStream(stream.id)
        } else {
            connection.sendHeaders(stream.id, trailers, endStream: true)
        }
        stream.isLocalEnded = true
        loop.atEndOfTurn(self)
    }

    fileprivate func consumed(_ stream: HTTP2MessageStream, _ byteCount: Int) {
        guard !isOver else { return }
        connection.consumed(stream.id, byteCount)
        if !connection.pending.isEmpty { loop.atEndOfTurn(self) }
    }

    fileprivate func reset(_ stream: HTTP2MessageStream, _ code: ErrorCode) {
        guard forget(stream.id) != nil, !isOver else { return }
        connection.reset(stream.id, code)
        loop.atEndOfTurn(self)
        noteEnd()
    }

    fileprivate func release(_ stream: HTTP2MessageStream) {
        guard streams[stream.id] === stream else { return }
        if stream.owedBytes > 0 { consumed(stream, stream.owedBytes) }
        if !stream.isRemoteEnded || !stream.isLocalEnded {
            // RFC 9113 §8.1: the answer is whole, and the rest of the request is not wanted.
            return reset(stream, isServer ? .noError : .cancel)
        }
        _ = forget(stream.id)
        noteEnd()
    }

    private var isServer: Bool { if case .server = owner { true } else { false } }

    private func noteEnd() {
        guard streams.isEmpty else { return }
        idleSince = loop.now
        switch owner {
        case .client(let pool): pool.capacityChanged()
        case .server(let service, _):
            if !isOver { loop.schedule(deadline, after: service.configuration.idleTimeout) }
        }
        if case .client(let pool) = owner, pool.isLast(requestCount) { drain() }
        endIfDrained()
    }

    private func forget(_ id: StreamID) -> HTTP2MessageStream? {
        guard let stream = streams.removeValue(forKey: id) else { return nil }
        if case .client(let pool) = owner, !isOver { pool.capacityChanged() }
        return stream
    }

    // MARK: Room

    private func queue(_ stream: HTTP2MessageStream) {
        guard !stream.isQueued else { return }
        stream.isQueued = true
        waiting.append(stream)
    }

    private func wake(_ stream: HTTP2MessageStream) {
        stream.isWindowBlocked = false
        queue(stream)
        loop.atEndOfTurn(self)
    }

    func writable() {
        guard !isOver else { return }
        loop.atEndOfTurn(self)
    }

    override func endOfTurn() {
        guard !isOver else { return }
        guard flushFrames() else { return }
        var round: ContiguousArray<HTTP2MessageStream> = []
        swap(&round, &waiting)
        for stream in round {
            stream.isQueued = false
            if !isOver, streams[stream.id] === stream { stream.delegate?.writable() }
        }
        if !isOver { _ = flushFrames() }
        endIfDrained()
    }

    /// Moves the machine's frames to the channel; false when not all of them fitted.
    private func flushFrames() -> Bool {
        while !connection.pending.isEmpty {
            guard let area = unsafe channel.reserve(connection.pending.count) else { return false }
            let count = unsafe connection.takeOutput(into: area)
            channel.commit(count)
        }
        if unconsumedBytes > 0 {
            let count = unconsumedBytes
            unconsumedBytes = 0
            channel.consumed(count)
        }
        return true
    }

    // MARK: The end

    private func endIfDrained() {
        guard isDraining, streams.isEmpty, !isOver, connection.pending.isEmpty else { return }
        if !isServer || connection.sentGoAway != nil || channel.isRemoteEnded {
            end(.disconnected, inPeace: true)
        }
    }

    private func deadlinePassed() {
        guard !isOver, streams.isEmpty, case .server(let service, _) = owner else { return }
        service.metrics.idleConnections.add()
        connection.goAway(.noError)
        end(.disconnected, inPeace: true)
    }

    /// Closes a client's session that nobody needs.
    func close() { end(.disconnected, inPeace: true) }

    private func end(_ reason: MessageClose, inPeace: Bool) {
        guard !isOver else { return }
        _ = channel.isOpen && flushFrames()
        isOver = true
        loop.cancel(deadline)
        loop.cancel(crumbTimer)
        let all = streams.values
        streams = [:]
        waiting = []
        for stream in all { stream.close(reason) }
        switch owner {
        case .server(let service, _): service.ended(self)
        case .client(let pool): pool.left(self)
        }
        guard channel.isOpen else { return }
        if inPeace { channel.close() } else { channel.abort(.failed("the session broke")) }
    }
}

/// One stream of a session.
final class HTTP2MessageStream: MessageStream {
    private let session: HTTP2Session
    fileprivate(set) var id: StreamID = 0
    fileprivate var delegate: (any MessageStreamDelegate)?
    fileprivate var isLocalEnded = false
    fileprivate var isRemoteEnded = false
    fileprivate var isWindowBlocked = false
    fileprivate var isQueued = false
    fileprivate var owedBytes = 0
    private var changesProtocol = false

    fileprivate init(_ session: HTTP2Session, _ delegate: (any MessageStreamDelegate)?) {
        self.session = session
        self.delegate = delegate
    }

    func sendHead(_ head: HeaderBlock, endStream: Bool) {
        guard id != 0 else {
            changesProtocol = head.contains(":protocol")
            return session.open(self, head, endStream: endStream)
        }
        guard head.status == 101 else { return session.sendHead(self, head, endStream: endStream) }
        var granted = head
        granted.set(":status", "200")
        session.sendHead(self, granted, endStream: endStream)
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Int { unsafe session.send(self, bytes) }
    func sendEnd(_ trailers: HeaderBlock) { session.sendEnd(self, trailers) }

    func consumed(_ byteCount: Int) {
        owedBytes -= byteCount
        session.consumed(self, byteCount)
    }

    func reset(_ code: ErrorCode) {
        delegate = nil
        session.reset(self, code)
    }

    func release() {
        delegate = nil
        session.release(self)
    }

    fileprivate func headReceived(_ head: HeaderBlock, endStream: Bool) {
        guard changesProtocol, let status = head.status, (200..<300).contains(status) else {
            return delegate?.headReceived(head, endStream: endStream) ?? ()
        }
        var granted = head
        granted.set(":status", "101")
        delegate?.headReceived(granted, endStream: endStream)
    }

    fileprivate func received(_ bytes: UnsafeRawBufferPointer) {
        guard let delegate else { return session.consumed(self, bytes.count) }
        owedBytes += bytes.count
        unsafe delegate.received(bytes)
    }

    fileprivate func close(_ reason: MessageClose) {
        let last = delegate
        delegate = nil
        last?.closed(reason)
    }
}
