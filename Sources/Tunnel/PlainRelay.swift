import EventLoop
import Linux
import Mesh

/// Joins two sockets: connections that leave the mesh, and those that enter it without a tunnel.
///
/// Small exchanges are copied; a direction that has proved to be bulk is spliced through a pipe, so that its bytes never
/// come to us (measured: even at 32 KiB a read, 0.63 of the time at 256 KiB, 1.1 for small messages). Either way no more than one read waits
/// for a slow side, and who has nothing under way holds neither a buffer nor a pipe.
public final class PlainRelay: Relay {
    private let client: PlainEnd
    private let server: PlainEnd
    private let share: TurnShare

    /// - Parameters:
    ///   - client: the socket of whoever opened the connection.
    ///   - server: connected already.
    ///   - share: what the workload may move in a turn of the loop.
    public init(loop: EventLoop, client: consuming Socket, server: consuming Socket, share: TurnShare) {
        self.client = PlainEnd(.client, client, loop)
        self.server = PlainEnd(.server, server, loop)
        self.share = share
        super.init(loop: loop)
    }

    /// Begins to relay. What has arrived meanwhile is picked up at once.
    public func start() {
        client.relay = self
        server.relay = self
        watch()
    }

    /// Bytes held for either side, in memory or in a pipe; for dumps and tests.
    public var heldByteCount: Int { client.waitingByteCount + server.waitingByteCount }

    /// Directions that are bulk at present; for dumps and tests.
    public var bulkDirections: Int { (client.isBulk ? 1 : 0) + (server.isBulk ? 1 : 0) }

    private func end(_ side: RelayMachine.Side) -> PlainEnd { side == .client ? client : server }

    // MARK: What the ends report

    fileprivate func ready(_ end: PlainEnd, _ events: Events) {
        if events.contains(.writable) { flush(end) }
        if !events.isDisjoint(with: [.readable, .hangup]), !machine.isOver { read(from: end, events) }
        watch()
    }

    private func read(from source: PlainEnd, _ events: Events) {
        let target = end(source.side.other)
        guard mayRead(source) else {
            // Over on its side while the other is slow: nothing to look at until that one has caught up. A hangup is
            // reported again and again, so it is not watched; but the slow side has only so much time.
            if events.contains(.hangup), !source.isParked {
                source.isParked = true
                armPatience()
            }
            return
        }
        guard share.admit(source) else { return }
        switch source.move(to: target, atMost: share.remaining) {
        case .moved(let byteCount):
            share.spend(byteCount)
            count(from: source.side, byteCount)
        case .nothing: break
        case .ended:
            carryOut(
                source.isWriteBroken
                    ? machine.broken(by: source.side)
                    : machine.ended(source.side, isDelivered: target.waitingByteCount == 0))
        case .broken: carryOut(machine.broken(by: source.side))
        case .targetBroken(let byteCount):
            count(from: source.side, byteCount)
            writeBroke(target)
        case .noMemory: carryOut(machine.end(.limitReached("buffers of the loop")))
        }
    }

    private func flush(_ target: PlainEnd) {
        guard target.waitingByteCount > 0 else { return }
        let before = target.waitingByteCount
        guard target.flush() else { return writeBroke(target) }
        if target.waitingByteCount < before, patience.isArmed { armPatience() }
        guard target.waitingByteCount == 0 else { return }
        carryOut(machine.delivered(to: target.side))
        let source = end(target.side.other)
        if source.isParked, !machine.isOver {
            source.isParked = false
            read(from: source, .hangup)
        }
    }

    /// A side takes nothing any more. What it has sent before is still good: a server that answers and closes without
    /// reading everything resets its connection behind the answer.
    private func writeBroke(_ target: PlainEnd) {
        target.breakWriting()
        if !machine.isSending(target.side) { carryOut(machine.broken(by: target.side)) }
    }

    private func mayRead(_ source: PlainEnd) -> Bool {
        let target = end(source.side.other)
        return machine.isSending(source.side) && target.waitingByteCount == 0 && !target.isWriteBroken
    }

    private func watch() {
        guard !machine.isOver else { return }
        client.watch(reading: mayRead(client))
        server.watch(reading: mayRead(server))
    }

    private lazy var patience = CallbackTimer { [unowned self] in
        carryOut(machine.broken(by: client.isParked ? .client : .server))
    }

    private func armPatience() { loop.schedule(patience, after: Relay.deliveryPatience) }

    // MARK: Ending

    override func finish(_ side: RelayMachine.Side) {
        if !machine.isOver { end(side).finish() }
    }

    override func release(_ reason: CloseReason) {
        loop.cancel(patience)
        client.close(reason)
        server.close(reason)
    }
}

/// One socket of a `PlainRelay`, and what waits for it.
private final class PlainEnd: Pollable {
    enum Movement {
        case moved(Int)
        case nothing
        case ended
        case broken
        /// The other side took no more; so many bytes had been read.
        case targetBroken(Int)
        case noMemory
    }

    let side: RelayMachine.Side
    /// Set while the relay runs; the loop holds this end, and this end the relay.
    var relay: PlainRelay?
    /// Its peer is gone, and what it sent waits in the kernel until the other side has caught up.
    var isParked = false
    /// Writing has failed; reading may still yield what came before.
    private(set) var isWriteBroken = false

    private let loop: EventLoop
    private var socket: Socket?
    private var registration = Registration.none
    private var interest: Events = []
    private var backlog: Backlog
    /// While there are bytes in it.
    private var pipe: SplicePipe?
    /// What comes from here is spliced.
    private(set) var isBulk = false
    /// Large reads in a row while it is not bulk, small ones while it is.
    private var readsInFavour = 0

    /// What a copy moves, and so what waits for a slow side at most.
    private static let readSize = 512 << 10
    /// A read of more than this speaks for bulk, a smaller one against it.
    private static let largeRead = 32 << 10
    /// So many in a row change the way.
    private static let proof = 16

    init(_ side: RelayMachine.Side, _ socket: consuming Socket, _ loop: EventLoop) {
        self.side = side
        self.loop = loop
        self.socket = .some(socket)
        backlog = Backlog(pool: loop.buffers)
    }

    var waitingByteCount: Int { backlog.byteCount + (pipe?.byteCount ?? 0) }

    override func ready(_ events: Events) { relay?.ready(self, events) }
    override func resumed() { relay?.ready(self, .readable) }

    /// Watches for what can be done; for nothing at all it is not watched, since a hangup would be reported for ever.
    func watch(reading: Bool) {
        var wanted: Events = []
        if reading { wanted.insert(.readable) }
        if waitingByteCount > 0 { wanted.insert(.writable) }
        if isParked, wanted.isEmpty {
            // However it was watched before: a hangup is reported even to who asked for nothing.
            if registration != .none { loop.deregister(registration) }
            registration = .none
            interest = []
            return
        }
        guard wanted != interest || registration == .none else { return }
        interest = wanted
        if registration == .none {
            register()
        } else {
            loop.update(registration, wanted)
        }
    }

    private func register() {
        do {
            guard let registered = try socket.watch(self, loop, interest) else { return }
            registration = registered
        } catch { relay?.cut(.failed("cannot watch a socket: \(error)")) }
    }

    // MARK: Moving bytes

    /// Moves once what has arrived here, at most `limit` bytes of it, to the other end, which has nothing waiting.
    func move(to target: PlainEnd, atMost limit: Int) -> Movement {
        if isBulk {
            if let pipe = loop.pipes.take() { return splice(to: target, through: pipe, atMost: limit) }
            // Too many readers are slow: it is asked for again after as much proof as before.
            isBulk = false
            readsInFavour = 0
        }
        return copy(to: target, atMost: limit)
    }

    private func copy(to target: PlainEnd, atMost limit: Int) -> Movement {
        let scratch = unsafe loop.scratch.plain
        let area = unsafe UnsafeMutableRawBufferPointer(
            start: scratch.baseAddress, count: min(limit, Self.readSize))
        switch unsafe socket?.read(into: area) ?? .end {
        case .bytes(let count):
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: area[..<count])
            notice(count)
            return unsafe target.write(bytes)
        case .wouldBlock: return .nothing
        case .end: return .ended
        case .failed: return .broken
        }
    }

    /// Gives bytes to the socket, and keeps what it does not take.
    private func write(_ bytes: UnsafeRawBufferPointer) -> Movement {
        var sent = 0
        while sent < bytes.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[sent...])
            switch unsafe socket?.write(rest) ?? .wouldBlock {
            case .bytes(let count): sent += count
            case .failed: return .targetBroken(bytes.count)
            case .wouldBlock, .end:
                return unsafe backlog.append(rest) ? .moved(bytes.count) : .noMemory
            }
        }
        return .moved(sent)
    }

    private func splice(to target: PlainEnd, through pipe: SplicePipe, atMost limit: Int) -> Movement {
        let result = socket.fill(pipe, atMost: limit)
        if pipe.byteCount == 0 { loop.pipes.give(pipe) }
        switch result {
        case .bytes(let count):
            target.pipe = pipe
            notice(count)
            return target.flush() ? .moved(count) : .targetBroken(count)
        case .wouldBlock: return .nothing
        case .end: return .ended
        case .failed: return .broken
        }
    }

    /// Splicing pays for large reads only: it begins with proof and ends with proof.
    private func notice(_ byteCount: Int) {
        guard (byteCount >= Self.largeRead) != isBulk else {
            readsInFavour = 0
            return
        }
        readsInFavour += 1
        guard readsInFavour == Self.proof else { return }
        readsInFavour = 0
        isBulk.toggle()
    }

    private func returnPipe() {
        if let pipe { loop.pipes.give(pipe) }
        pipe = nil
    }

    /// Writes what waits, in memory before the pipe: one is empty whenever the other is filled.
    ///
    /// - Returns: false when the socket takes nothing any more.
    func flush() -> Bool {
        var written = 0
        if !backlog.isEmpty, case .failed = socket.flush(&backlog, &written) { return false }
        guard let pipe else { return true }
        while pipe.byteCount > 0 {
            switch socket.drain(pipe) {
            case .bytes: break
            case .wouldBlock, .end: return true
            case .failed: return false
            }
        }
        returnPipe()
        return true
    }

    // MARK: Ending

    func finish() { socket?.shutdownWrite() }

    func breakWriting() {
        isWriteBroken = true
        backlog.clear()
        returnPipe()
    }

    func close(_ reason: CloseReason) {
        backlog.clear()
        returnPipe()
        relay = nil
        if let socket = socket.take() { SocketEnding(reason).apply(to: socket, on: loop, registration) }
        registration = .none
    }
}
