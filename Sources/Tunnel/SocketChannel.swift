import Address
import EventLoop
import Linux
import Mesh
import Transport

/// A connected socket as a byte channel: connections that do not come, or do not go, through a tunnel.
///
/// Reads once a turn and hands content over where it lies. What is sent is gathered and written at the end of the turn with one system call.
public final class SocketChannel: Pollable, ByteChannel {
    public let loop: EventLoop
    public let peerAddress: SocketAddress?
    public let localAddress: SocketAddress?
    public private(set) var isLocalEnded = false
    public private(set) var isRemoteEnded = false
    public var isOpen: Bool { !isOver }

    private var delegate: (any ByteChannelDelegate)?
    private let share: TurnShare?
    private var socket: Socket?
    private var registration = Registration.none
    private var interest: Events = []
    private var output: GatherBuffer
    private var reserved: Int?
    /// Handed over and not consumed.
    private var unconsumedBytes = 0
    private var hasFinSent = false
    /// The socket took less than there was.
    private var isBlocked = false
    /// Somebody was told that there is no room.
    private var owesWritable = false
    /// The peer takes nothing any more; what it said before is still handed over.
    private var isWriteBroken = false
    /// It has hung up while nobody wants what it sent: a hangup would be reported for ever.
    private var isParked = false
    /// The delegate has been told the end, or will be in this turn.
    private var isOver = false
    private var untold: ByteChannelClose?
    /// How the socket is let go of once what was sent is written.
    private var ending: SocketEnding?
    private lazy var patience = CallbackTimer { [weak self] in self?.release(.resetNow) }
    private lazy var memoryTimer = CallbackTimer { [weak self] in self?.offerRoom() }

    /// Received bytes that may wait to be consumed.
    static let window = 256 << 10
    /// Sent bytes that may wait to be written.
    static let sendLimit = 256 << 10
    /// From here on there is room again.
    private static let sendLowMark = 128 << 10
    /// When the loop's memory is used up, room is offered again after this.
    private static let memoryRetry = Duration.milliseconds(10)
    /// How long, after our last byte, the peer may take to end as well: closed at once, unread bytes would become a reset that takes our last
    /// words from the peer.
    private static let linger = Duration.seconds(2)

    /// - Parameters:
    ///   - socket: connected.
    ///   - share: what the workload may move in a turn of the loop.
    public init(loop: EventLoop, _ socket: consuming Socket, share: TurnShare? = nil) {
        self.loop = loop
        self.share = share
        output = GatherBuffer(loop.buffers)
        peerAddress = socket.peerAddress
        localAddress = socket.localAddress
        if localAddress != nil { socket.setNoDelay() }
        self.socket = .some(socket)
        super.init()
    }

    public func begin(_ delegate: any ByteChannelDelegate) {
        guard !isOver else { return delegate.closed(.failed("the connection ended before it was used")) }
        self.delegate = delegate
        watch()
    }

    // MARK: Reading

    public override func ready(_ events: Events) {
        if events.contains(.writable) {
            isBlocked = false
            write()
            offerRoom()
        }
        if !events.isDisjoint(with: [.readable, .hangup, .peerClosed]) { read(events) }
        watch()
    }

    public override func resumed() {
        read(.readable)
        watch()
    }

    private var mayRead: Bool {
        socket != nil && !isRemoteEnded && (ending != nil || unconsumedBytes < Self.window)
    }

    private func read(_ events: Events) {
        guard mayRead else {
            if events.contains(.hangup) { isParked = true }
            return
        }
        guard ending == nil else { return discard() }
        guard share?.admit(self) ?? true else { return }
        // Where the end is known to stand behind it, it is told together with what comes before it.
        for _ in 0..<(events.contains(.peerClosed) ? 2 : 1) {
            let limit = min(
                Scratch.byteCount, Self.window - unconsumedBytes, share?.remaining ?? .max)
            guard limit > 0, mayRead, !isOver else { return }
            let area = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.scratch.plain[..<limit])
            switch unsafe socket?.read(into: area) ?? .wouldBlock {
            case .bytes(let count):
                share?.spend(count)
                unconsumedBytes += count
                unsafe delegate?.received(UnsafeRawBufferPointer(rebasing: area[..<count]))
                delegate?.batchEnded()
            case .wouldBlock: return
            case .end:
                isRemoteEnded = true
                if isWriteBroken { return tell(.reset) }
                delegate?.remoteEnded()
                return settle()
            case .failed: return tell(.reset)
            }
        }
    }

    /// Reads what nobody wants any more, so that closing is no reset.
    private func discard() {
        let area = unsafe loop.scratch.plain
        switch unsafe socket?.read(into: area) ?? .wouldBlock {
        case .bytes, .wouldBlock: break
        case .end: isRemoteEnded = true
        case .failed: return release(.resetNow)
        }
        if isRemoteEnded, hasFinSent { release(.inPeace) }
    }

    public func consumed(_ byteCount: Int) {
        precondition(
            byteCount >= 0 && byteCount <= unconsumedBytes || isOver,
            "consumed bytes that were never received")
        unconsumedBytes = max(0, unconsumedBytes - byteCount)
        guard socket != nil, !isRemoteEnded else { return }
        isParked = false
        watch()
    }

    // MARK: Writing

    public func reserve(_ limit: Int) -> UnsafeMutableRawBufferPointer? {
        precondition(reserved == nil, "room was reserved and not committed")
        let count = room(limit)
        guard count > 0 else { return nil }
        reserved = count
        return unsafe UnsafeMutableRawBufferPointer(rebasing: output.room[..<count])
    }

    public func commit(_ byteCount: Int) {
        guard let reserved, byteCount >= 0, byteCount <= reserved else {
            preconditionFailure("a channel was given what it had not reserved")
        }
        self.reserved = nil
        if byteCount > 0, !isWriteBroken, !isOver { output.append(byteCount) } else { output.giveBack() }
        loop.atEndOfTurn(self)
    }

    public func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        if isWriteBroken { return bytes.count }
        var sent = 0
        while sent < bytes.count {
            let count = room(bytes.count - sent)
            guard count > 0 else { break }
            unsafe UnsafeMutableRawBufferPointer(rebasing: output.room[..<count])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[sent..<sent + count]))
            output.append(count)
            sent += count
        }
        if sent > 0 { loop.atEndOfTurn(self) }
        return sent
    }

    /// How many bytes can be taken now. 0: room will be offered when there is some.
    private func room(_ wanted: Int) -> Int {
        guard !isOver, !isLocalEnded, ending == nil, wanted > 0 else { return 0 }
        if output.count >= Self.sendLimit { write() }
        let allowed = min(wanted, Self.sendLimit - output.count)
        guard allowed > 0 else {
            owesWritable = true
            return 0
        }
        output.makeRoom(allowed)
        let room = unsafe output.room.count
        if room == 0 {
            owesWritable = true
            if output.isEmpty { loop.schedule(memoryTimer, after: Self.memoryRetry) }
        }
        return min(room, allowed)
    }

    /// From where nobody is in a call of ours.
    private func offerRoom() {
        guard owesWritable, output.count <= Self.sendLowMark, !isOver, !isLocalEnded else { return }
        owesWritable = false
        delegate?.writable()
    }

    public func finish() {
        guard !isLocalEnded, !isOver else { return }
        isLocalEnded = true
        loop.atEndOfTurn(self)
    }

    public override func endOfTurn() {
        write()
        offerRoom()
        if let untold { tell(untold) }
        watch()
    }

    /// Writes what was gathered, as far as the socket takes it, and what comes at its end.
    private func write() {
        while !isBlocked, !output.isEmpty {
            let bytes = unsafe output.bytes
            switch unsafe socket?.write(bytes, moreFollows: isLocalEnded || ending == .inPeace) ?? .wouldBlock
            {
            case .bytes(let count):
                if count < bytes.count { isBlocked = true }
                output.removeFirst(count)
            case .wouldBlock, .end: isBlocked = true
            case .failed: return breakWriting()
            }
        }
        if output.isEmpty {
            if let ending, ending != .inPeace { return release(ending) }
            if isLocalEnded || ending != nil, !hasFinSent {
                hasFinSent = true
                socket?.shutdownWrite()
                if ending != nil, !isRemoteEnded { loop.schedule(patience, after: Self.linger) }
            }
            if ending != nil, isRemoteEnded { return release(.inPeace) }
            settle()
        }
    }

    private func breakWriting() {
        isWriteBroken = true
        output.clear()
        if ending != nil { return release(.resetNow) }
        if isRemoteEnded, !isOver {
            isOver = true
            untold = .reset
        }
        loop.atEndOfTurn(self)
    }

    // MARK: The end

    private func settle() {
        if isRemoteEnded, hasFinSent, output.isEmpty, !isOver { tell(.finished) }
    }

    public func close() {
        guard !isOver else { return }
        isOver = true
        untold = .local
        ending = isWriteBroken ? .resetNow : .inPeace
        loop.schedule(patience, after: Relay.deliveryPatience)
        loop.atEndOfTurn(self)
    }

    public func abort(_ reason: CloseReason) {
        guard !isOver else { return }
        isOver = true
        untold = .local
        ending = SocketEnding(reason) == .resetAfterDelivery ? .resetAfterDelivery : .resetNow
        if ending == .resetNow { output.clear() }
        loop.schedule(patience, after: Relay.deliveryPatience)
        loop.atEndOfTurn(self)
    }

    /// Tells the end, from where nobody is in a call of ours. Where it is not ours to say when, the socket goes at once.
    private func tell(_ reason: ByteChannelClose) {
        isOver = true
        untold = nil
        if ending == nil { release(reason == .finished ? .inPeace : .resetNow) }
        let last = delegate
        delegate = nil
        last?.closed(reason)
    }

    private func release(_ ending: SocketEnding) {
        loop.cancel(patience)
        loop.cancel(memoryTimer)
        output.clear()
        if let socket = socket.take() { ending.apply(to: socket, on: loop, registration) }
        registration = .none
    }

    // MARK: Readiness

    private func watch() {
        guard socket != nil else { return }
        var wanted: Events = []
        if mayRead { wanted = [.readable, .peerClosed] }
        if isBlocked, !output.isEmpty { wanted.insert(.writable) }
        if wanted.isEmpty, isParked {
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
        } catch {
            guard !isOver else { return release(.resetNow) }
            isOver = true
            untold = .failed("cannot watch a socket: \(error)")
            loop.atEndOfTurn(self)
        }
    }
}
