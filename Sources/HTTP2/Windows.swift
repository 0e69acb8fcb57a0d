/// The receiving side of one flow-control window, of a stream or of the connection (RFC 9113 §5.2, §6.9).
///
/// Bytes are given back when the application has consumed them, not when they arrive: a window returned early is an
/// unbounded buffer. Updates are batched, for each costs the peer a wake-up.
struct ReceiveWindow: Equatable {
    // Three numbers of at most 2^31 - 1, for each of thousands of idle streams.
    private var storedAvailable: Int32
    private var storedUnannounced: Int32 = 0
    private let storedSize: Int32

    /// - Parameter size: bytes that may be in flight or unread; at most 2^31 - 1.
    init(size: Int) {
        storedSize = Int32(clamping: size)
        storedAvailable = storedSize
    }

    /// Bytes that the peer may still send.
    private(set) var available: Int {
        get { Int(storedAvailable) }
        set { storedAvailable = Int32(clamping: newValue) }
    }
    /// Bytes consumed and not yet announced.
    private var unannounced: Int {
        get { Int(storedUnannounced) }
        set { storedUnannounced = Int32(clamping: newValue) }
    }
    private var size: Int { Int(storedSize) }

    /// Bytes received and not yet consumed: what this window makes us hold.
    var held: Int { size - available - unannounced }

    /// Accounts for the whole payload of a DATA frame, padding included (§6.1).
    mutating func receive(_ byteCount: Int) throws(FlowControlError) {
        guard byteCount <= available else { throw .windowExceeded(by: byteCount - available) }
        available -= byteCount
    }

    /// Accounts for bytes that the application has taken.
    ///
    /// - Returns: the increment of a WINDOW_UPDATE to send now, or 0 while it is worth waiting.
    mutating func consume(_ byteCount: Int) -> Int {
        assert(byteCount <= held, "consumed bytes that were never received")
        unannounced += byteCount
        // A quarter of the window: late enough to batch, early enough that a full pipe never waits for us.
        guard unannounced >= size / 4 else { return 0 }
        defer { unannounced = 0 }
        available += unannounced
        return unannounced
    }
}

/// The sending side of one window. It is negative after the peer has made its initial window smaller (§6.9.2).
struct SendWindow: Equatable {
    static let limit = 0x7fff_ffff

    private var stored: Int32

    init(_ available: Int) { stored = Int32(clamping: available) }

    private(set) var available: Int {
        get { Int(stored) }
        set { stored = Int32(clamping: newValue) }
    }

    mutating func spend(_ byteCount: Int) {
        available -= byteCount
    }

    /// Accounts for a WINDOW_UPDATE.
    ///
    /// - Returns: true when the window was closed before and is open now.
    mutating func open(by increment: Int) throws(FlowControlError) -> Bool {
        guard increment > 0 else { throw .emptyUpdate }
        return try change(by: increment)
    }

    /// Accounts for another initial window size, which may take bytes away.
    mutating func change(by difference: Int) throws(FlowControlError) -> Bool {
        guard available + difference <= Self.limit else { throw .windowOverflow }
        let wasClosed = available <= 0
        available += difference
        return wasClosed && available > 0
    }
}
