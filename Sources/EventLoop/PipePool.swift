import Linux

/// A pipe through which bytes go from one socket to another without coming to us (splice(2)).
public final class SplicePipe {
    /// Bytes in it.
    public private(set) var byteCount = 0
    private let pipe: Pipe
    private let capacity: Int

    /// What is asked for: no more than one read of a copying relay. The kernel may grant less.
    private static let wantedCapacity: Int32 = 262_144

    fileprivate init?() {
        guard let pipe = try? Pipe() else { return nil }
        capacity = pipe.setCapacity(Self.wantedCapacity)
        self.pipe = pipe
    }

    /// Takes what the socket has, at most `limit` bytes, as far as there is room.
    public func fill(from socket: borrowing Socket, atMost limit: Int) -> IOResult {
        let result = splice(from: socket, to: pipe.writeEnd, min(limit, capacity - byteCount))
        if case .bytes(let count) = result { byteCount += count }
        return result
    }

    /// Gives the socket what waits, as far as it takes it.
    public func drain(into socket: borrowing Socket) -> IOResult {
        let result = splice(from: pipe.readEnd, to: socket, byteCount)
        if case .bytes(let count) = result { byteCount -= count }
        return result
    }
}

/// The pipes of one loop: borrowed while there are bytes in them, and given back when they are empty, so that a few serve
/// any number of connections. Each costs two descriptors of the process.
public final class PipePool {
    /// The most that may be lent at once: so many readers may be slow before others are copied for.
    public let limit: Int
    public private(set) var lentCount = 0
    /// How often there was none to be had.
    public private(set) var refusals = 0
    private var idle: ContiguousArray<SplicePipe> = []
    /// The fewest idle ones since the last trim: that many were not needed.
    private var unneeded = 0

    public init(limit: Int) {
        self.limit = limit
    }

    /// Kept for the next borrower.
    public var idleCount: Int { idle.count }

    /// Lends an empty pipe; nil when too many are lent, or the kernel makes none.
    public func take() -> SplicePipe? {
        if let kept = idle.popLast() {
            unneeded = min(unneeded, idle.count)
            lentCount += 1
            return kept
        }
        guard lentCount < limit, let made = SplicePipe() else {
            refusals += 1
            return nil
        }
        lentCount += 1
        return made
    }

    /// Takes one back. What still holds bytes, of a connection that broke, is closed and they are gone.
    public func give(_ pipe: SplicePipe) {
        lentCount -= 1
        if pipe.byteCount == 0 { idle.append(pipe) }
    }

    /// Closes what nobody needed since the last call.
    func trim() {
        idle.removeLast(min(unneeded, idle.count))
        unneeded = idle.count
    }
}
