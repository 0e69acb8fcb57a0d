import Linux

/// Raw memory for one loop's connections: borrowed while there is something in it, given back when it is drained.
///
/// Everything borrowed counts against a budget, so that slow readers cannot make a loop take more memory than it was given.
/// Memory given back is kept for the next borrower for a while and then returned to the system.
@safe
public final class BufferPool {
    public enum Size: Int, CaseIterable, Sendable {
        case small = 16_384
        case medium = 65_536
        case large = 262_144
        case huge = 524_288
        case giant = 2_097_152
    }

    /// The most bytes that may be borrowed at once.
    public let budget: Int
    public private(set) var borrowedBytes = 0
    /// Bytes kept for the next borrower.
    public private(set) var idleBytes = 0
    /// How often a buffer was refused because the budget was used up.
    public private(set) var refusals = 0

    private var idle: [[UnsafeMutableRawPointer]] = unsafe Size.allCases.map { _ in unsafe [] }
    /// The fewest idle buffers of a size since the last trim: that many were not needed.
    private var unneeded = Size.allCases.map { _ in 0 }

    public init(budget: Int) {
        self.budget = budget
    }

    /// Whether so little is borrowed that a buffer may be larger than its borrower needs.
    public var isAmple: Bool { borrowedBytes <= budget / 4 }

    deinit {
        unsafe idle.joined().forEach { unsafe $0.deallocate() }
    }

    /// Borrows a buffer, its contents undefined; nil when the budget is used up.
    public func take(_ size: Size) -> UnsafeMutableRawBufferPointer? {
        guard borrowedBytes + size.rawValue <= budget else {
            refusals += 1
            return nil
        }
        return unsafe takeAlways(size)
    }

    /// Borrows a buffer whatever the budget says: for what a connection must say to stay alive or to end, one small
    /// buffer at a time.
    public func takeAlways(_ size: Size) -> UnsafeMutableRawBufferPointer {
        borrowedBytes += size.rawValue
        let index = size.index
        let start: UnsafeMutableRawPointer
        if let kept = unsafe idle[index].popLast() {
            unsafe start = kept
            idleBytes -= size.rawValue
            unneeded[index] = unsafe min(unneeded[index], idle[index].count)
        } else {
            unsafe start = .allocate(byteCount: size.rawValue, alignment: 64)
        }
        return unsafe UnsafeMutableRawBufferPointer(start: start, count: size.rawValue)
    }

    /// Counts memory against the budget that was not borrowed here, such as what holds sealed bytes; negative when it is
    /// free again.
    public func charge(_ byteCount: Int) {
        borrowedBytes += byteCount
    }

    /// Gives back what `take` gave, whole.
    public func give(_ buffer: UnsafeMutableRawBufferPointer) {
        guard let start = buffer.baseAddress, let size = Size(rawValue: buffer.count) else {
            preconditionFailure("a buffer that was not borrowed here")
        }
        borrowedBytes -= size.rawValue
        idleBytes += size.rawValue
        unsafe idle[size.index].append(start)
    }

    /// Returns to the system what nobody needed since the last call.
    func trim() {
        for size in Size.allCases {
            let index = size.index
            for _ in 0..<unneeded[index] {
                guard let kept = unsafe idle[index].popLast() else { break }
                unsafe kept.deallocate()
                idleBytes -= size.rawValue
            }
            unneeded[index] = unsafe idle[index].count
        }
    }
}

extension BufferPool.Size {
    fileprivate var index: Int {
        switch self {
        case .small: 0
        case .medium: 1
        case .large: 2
        case .huge: 3
        case .giant: 4
        }
    }
}

/// Three areas of a loop for use within a single call: what was read before it is opened, and after.
///
/// Nothing in them outlives the event in which it was put there, so every connection of the loop shares them.
@safe
public final class Scratch {
    public static let byteCount = BufferPool.Size.giant.rawValue

    /// Bytes as they come from the wire.
    public let cipher: UnsafeMutableRawBufferPointer
    /// Bytes after decryption, or otherwise decoded.
    public let plain: UnsafeMutableRawBufferPointer
    /// Bytes on their way out that have yet to be cut into frames.
    public let outgoing: UnsafeMutableRawBufferPointer

    init() {
        unsafe cipher = .allocate(byteCount: Scratch.byteCount, alignment: pageByteCount)
        unsafe plain = .allocate(byteCount: Scratch.byteCount, alignment: pageByteCount)
        unsafe outgoing = .allocate(byteCount: Scratch.byteCount, alignment: pageByteCount)
    }

    /// Returns to the system the memory behind all areas, which a large read has touched once for all.
    func trim() {
        unsafe releaseContents(cipher)
        unsafe releaseContents(plain)
        unsafe releaseContents(outgoing)
    }

    deinit {
        unsafe cipher.deallocate()
        unsafe plain.deallocate()
        unsafe outgoing.deallocate()
    }
}
