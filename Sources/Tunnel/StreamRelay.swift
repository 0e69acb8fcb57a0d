import EventLoop
import HTTP2
import Linux
import Mesh
import Transport

/// Joins an application's socket and a tunnel's stream.
///
/// What the application sends is read straight into the channel's buffer, behind room for a frame's header. What the
/// tunnel brings is written straight to the socket; only what it does not take is copied, and counts against the stream's
/// window until it does: a slow application stops its own stream and nothing else.
///
/// A reset stays a reset. The application's becomes CONNECT_ERROR (RFC 9113 §8.5), which no peer takes for an orderly end
/// as ztunnel takes CANCEL; a peer's becomes a reset of the socket, except for NO_ERROR, and CANCEL behind END_STREAM,
/// which say only that it wants to hear no more.
public final class StreamRelay: Relay {
    private let stream: TunnelStream
    /// Which side the socket is: the client on the node where the connection began, the server where it arrives.
    private let application: RelayMachine.Side
    private var remote: RelayMachine.Side { application.other }

    private var socket: Socket?
    private var registration = Registration.none
    private var interest: Events = []
    /// What waits for the application.
    private var backlog: Backlog
    /// What the read that is being worked on brought for the application: written together at its end.
    private var pieces = PieceList()
    /// The stream takes nothing at present, and will say when it does.
    private var isBlocked = false
    /// The application's peer is gone while its last bytes wait for the stream.
    private var isParked = false
    /// The application takes nothing any more; what it sent before is still passed on.
    private var isWriteBroken = false
    /// How the stream broke while bytes were waiting for the application.
    private var lateCause: CloseReason?
    /// The socket reported what the blocked stream could not take: it is not watched for that until the stream can.
    private var isMuted = false

    /// What the workload may move in a turn, so that a fast application does not keep the loop from others.
    private let share: TurnShare

    /// As much as a frame takes, so that what is read lies where it is sent from.
    private static let readSize = 1 << 20

    /// Where a connection began: the socket is the client's.
    public static func outbound(
        client socket: consuming Socket, stream: TunnelStream, share: TurnShare
    ) -> StreamRelay? {
        StreamRelay(.client, socket, stream, share)
    }

    /// Where it arrives: the socket is the server's.
    public static func inbound(
        server socket: consuming Socket, stream: TunnelStream, share: TurnShare
    ) -> StreamRelay? {
        StreamRelay(.server, socket, stream, share)
    }

    /// nil when the stream has ended already: then the socket is reset.
    private init?(
        _ application: RelayMachine.Side, _ socket: consuming Socket, _ stream: TunnelStream,
        _ share: TurnShare
    ) {
        guard let loop = stream.channel?.loop else {
            socket.reset()
            return nil
        }
        self.stream = stream
        self.application = application
        self.share = share
        backlog = Backlog(pool: loop.buffers)
        self.socket = .some(socket)
        super.init(loop: loop)
    }

    /// Begins to relay, with what the stream has brought before.
    public func start() {
        let early = stream.attach(self)
        if !early.isEmpty {
            unsafe early.withBytes {
                unsafe received($0)
                batchEnded()
            }
        }
        if stream.isRemoteEnded { remoteEnded() }
        // Who opened the connection has mostly sent something by now; who was called speaks second.
        if application == .client, machine.isSending(application) {
            if stream.firstByteCount > 0 { passOver(stream.firstByteCount) } else { pump() }
        }
        watch()
    }

    /// Takes what went along with the CONNECT. Mostly that was all; what came since is reported in the next turn.
    private func passOver(_ byteCount: Int) {
        guard case .bytes(byteCount) = socket?.discard(byteCount) ?? .wouldBlock else {
            return carryOut(machine.broken(by: application))
        }
        count(from: application, byteCount)
    }

    /// Bytes that wait for the application.
    public var heldByteCount: Int { backlog.byteCount }

    // MARK: From the application

    public override func ready(_ events: Events) {
        if events.contains(.writable) { flush() }
        if !machine.isOver, !events.isDisjoint(with: [.readable, .hangup, .peerClosed]) {
            if isBlocked || !machine.isSending(application) {
                isMuted = true
                // A hangup is reported for ever: it is looked at again when the stream takes what comes before it.
                if events.contains(.hangup) { park() }
            } else {
                pump(isEnding: events.contains(.peerClosed))
            }
        }
        watch()
    }

    /// There is room on the stream again.
    func writable() {
        guard !machine.isOver else { return }
        isBlocked = false
        if isParked {
            isParked = false
            loop.cancel(patience)
        }
        if machine.isSending(application) { pump() }
        if !isBlocked { isMuted = false }
        watch()
    }

    /// - Parameter isEnding: an end is known to stand behind what has arrived: it is passed on with it, in one record.
    private func pump(isEnding: Bool = false) {
        guard share.admit(self) else { return }
        while !machine.isOver {
            let limit = min(Self.readSize, share.remaining)
            // Nothing is lost by stopping here: the socket is reported again in the next turn.
            guard limit > 0 else { return }
            guard let area = unsafe stream.reserve(limit) else {
                isBlocked = true
                return
            }
            switch unsafe socket?.read(into: area) ?? .wouldBlock {
            case .bytes(let byteCount):
                stream.commit(byteCount)
                count(from: application, byteCount)
                share.spend(byteCount)
                if byteCount < area.count, !isEnding { return }
            case .wouldBlock: return stream.commit(0)
            case .end:
                stream.commit(0)
                carryOut(
                    isWriteBroken
                        ? machine.broken(by: application) : machine.ended(application, isDelivered: true))
                return
            case .failed:
                stream.commit(0)
                return carryOut(machine.broken(by: application))
            }
        }
    }

    public override func resumed() {
        guard !machine.isOver, !isBlocked, machine.isSending(application) else { return }
        pump()
        watch()
    }

    private func park() {
        guard !isParked else { return }
        isParked = true
        loop.schedule(patience, after: Relay.deliveryPatience)
    }

    /// Whoever is gone has had its last bytes offered for long enough.
    private lazy var patience = CallbackTimer { [unowned self] in
        carryOut(lateCause.map { machine.end($0) } ?? machine.broken(by: application))
    }

    // MARK: To the application

    /// Takes content whose bytes stay where they are until `batchEnded`.
    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !machine.isOver, unsafe !bytes.isEmpty else { return }
        count(from: remote, bytes.count)
        if isWriteBroken {
            stream.consumed(bytes.count)
        } else if !backlog.isEmpty {
            unsafe keep(bytes)
        } else if unsafe !pieces.append(bytes) {
            batchEnded()
            // Behind what the socket did not take, or it would be passed by what comes next.
            if !backlog.isEmpty {
                unsafe keep(bytes)
            } else if !machine.isOver {
                unsafe _ = pieces.append(bytes)
            }
        }
    }

    /// Writes what the read brought with one system call, and keeps what the socket does not take.
    ///
    /// - Parameter isLast: the FIN follows at once, and goes in the same segment.
    func batchEnded(isLast: Bool = false) {
        guard !pieces.isEmpty else { return }
        defer { pieces.removeAll() }
        guard !machine.isOver else { return }
        if backlog.isEmpty {
            switch socket.write(pieces, moreFollows: isLast) {
            case .bytes(let byteCount):
                pieces.removeFirst(byteCount)
                stream.consumed(byteCount)
            case .wouldBlock, .end: break
            case .failed: return writeBroke(unwritten: pieces.byteCount)
            }
        }
        unsafe pieces.forEach { unsafe keep($0) }
        watch()
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        if unsafe !backlog.append(bytes), !machine.isOver {
            TunnelMetrics.shared.bufferRefusals.add()
            carryOut(machine.end(.limitReached("buffers of the loop")))
        }
    }

    /// The tunnel brings no more.
    func remoteEnded() {
        batchEnded(isLast: true)
        carryOut(machine.ended(remote, isDelivered: backlog.isEmpty))
        watch()
    }

    private func flush() {
        guard !backlog.isEmpty else { return }
        var written = 0
        let result = socket.flush(&backlog, &written)
        stream.consumed(written)
        if case .failed = result {
            let unwritten = backlog.byteCount
            backlog.clear()
            return writeBroke(unwritten: unwritten)
        }
        if written > 0, lateCause != nil { loop.schedule(patience, after: Relay.deliveryPatience) }
        guard backlog.isEmpty else { return }
        carryOut(lateCause.map { machine.end($0) } ?? machine.delivered(to: application))
    }

    /// The application takes nothing any more. What it said before closing is still good, so it is read to its end.
    private func writeBroke(unwritten: Int) {
        stream.consumed(unwritten)
        pieces.removeAll()
        isWriteBroken = true
        if let lateCause { return carryOut(machine.end(lateCause)) }
        if !machine.isSending(application) { carryOut(machine.broken(by: application)) }
    }

    // MARK: The end

    /// The stream is over, one way or the other.
    func streamClosed(_ reason: StreamClose) {
        batchEnded()
        guard !machine.isOver else { return }
        switch reason {
        case .finished, .cancelled: break
        case .reset(let code) where code == .noError || (code == .cancel && stream.isRemoteEnded):
            carryOut(machine.ended(remote, isDelivered: backlog.isEmpty))
            carryOut(machine.ended(application, isDelivered: true))
        case .reset: remoteBroke(remote == .client ? .resetByClient : .resetByServer)
        case .channel(let close): remoteBroke(.failed("the tunnel ended: \(close)"))
        }
        watch()
    }

    /// What came before the end is delivered, then the application sees a reset.
    private func remoteBroke(_ cause: CloseReason) {
        guard !backlog.isEmpty else { return carryOut(machine.end(cause)) }
        lateCause = cause
        isBlocked = true
        isMuted = true
        loop.schedule(patience, after: Relay.deliveryPatience)
    }

    override func finish(_ side: RelayMachine.Side) {
        if side != application { return stream.finish() }
        if !machine.isOver { socket?.shutdownWrite() }
    }

    override func release(_ reason: CloseReason) {
        loop.cancel(patience)
        backlog.clear()
        if reason != .completed {
            let isApplications = reason == (application == .client ? .resetByClient : .resetByServer)
            stream.reset(isApplications ? .connectError : .cancel)
        }
        stream.detach()
        if let socket = socket.take() { SocketEnding(reason).apply(to: socket, on: loop, registration) }
        registration = .none
    }

    // MARK: Readiness

    /// Watches the socket for what can be done. A stream that is blocked for a moment is not worth two system calls: the
    /// socket is unwatched only when it reports in vain.
    private func watch() {
        guard !machine.isOver else { return }
        var wanted: Events = []
        if machine.isSending(application), !isMuted { wanted = [.readable, .peerClosed] }
        if !backlog.isEmpty { wanted.insert(.writable) }
        if wanted.isEmpty, isParked {
            // However it was watched before, muted included: a hangup is reported even then.
            if registration != .none { loop.deregister(registration) }
            registration = .none
            interest = []
            return
        }
        guard wanted != interest || registration == .none else { return }
        interest = wanted
        if registration != .none { return loop.update(registration, wanted) }
        do throws(SystemCallError) {
            registration = try socket.watch(self, loop, wanted) ?? .none
        } catch { carryOut(machine.end(.failed("cannot watch a socket: \(error)"))) }
    }
}

/// Content of one read, in pieces, where it lies: valid until the read is over.
@safe
struct PieceList {
    /// A piece that is alone, as nearly all are: who never has two needs no memory for them.
    private var single = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    private var parts: ContiguousArray<UnsafeRawBufferPointer> = unsafe []
    private(set) var byteCount = 0

    /// As many as one system call takes here.
    private static let limit = 64

    var isEmpty: Bool { byteCount == 0 }

    /// - Returns: false when the list is full.
    mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if byteCount == 0 {
            unsafe single = bytes
        } else {
            if unsafe parts.isEmpty { unsafe parts.append(single) }
            guard unsafe parts.count < Self.limit else { return false }
            unsafe parts.append(bytes)
        }
        byteCount += bytes.count
        return true
    }

    /// As `Socket.write`, over all pieces.
    func write(to socket: borrowing Socket, moreFollows: Bool) -> IOResult {
        unsafe parts.isEmpty
            ? unsafe socket.write(single, moreFollows: moreFollows)
            : unsafe socket.write(gathered: parts, moreFollows: moreFollows)
    }

    mutating func removeFirst(_ count: Int) {
        byteCount -= count
        guard unsafe !parts.isEmpty else {
            unsafe single = UnsafeRawBufferPointer(rebasing: single[count...])
            return
        }
        var rest = count
        var index = 0
        while rest > 0 {
            let part = unsafe parts[index]
            if part.count > rest {
                unsafe parts[index] = UnsafeRawBufferPointer(rebasing: part[rest...])
                break
            }
            rest -= part.count
            index += 1
        }
        unsafe parts.removeFirst(index)
    }

    mutating func removeAll() {
        unsafe parts.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
        guard byteCount > 0 else { return }
        guard unsafe !parts.isEmpty else { return unsafe body(single) }
        for index in unsafe parts.indices { unsafe body(parts[index]) }
    }
}
