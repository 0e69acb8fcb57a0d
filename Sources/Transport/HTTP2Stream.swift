import HTTP2

/// One stream of an HTTP/2 channel: a tunnel, a call. Subclass it.
///
/// Lives on its channel's loop. Its methods may be called from its own callbacks. `closed` comes exactly once and last.
open class HTTP2Stream {
    /// 0 before the stream is attached to a channel.
    public final internal(set) var id: StreamID = 0
    /// nil before the stream is attached and after `closed`.
    public final internal(set) var channel: HTTP2Channel?

    /// We have ended our side.
    public final internal(set) var isLocalEnded = false
    /// The peer has ended its side.
    public final internal(set) var isRemoteEnded = false
    /// Bytes received and not yet given to `consumed`: what the peer can make us hold, at most the stream's window.
    public final internal(set) var unconsumedBytes = 0

    // The channel's notes.
    final var isWaiting = false
    final var nextWaiting: HTTP2Stream?
    /// Waits for the peer to open a window.
    final var isWindowBlocked = false
    /// Our side ends as soon as there is room for the frame that says so.
    final var endsWhenPossible = false
    final var isInBatch = false

    public init() {}

    // MARK: To override

    /// The request (server) or a response (client; those with a status below 200 precede the final one).
    open func headersReceived(_ headers: HeaderBlock, endStream: Bool) {}

    /// Content. Call `consumed` when the application has taken it, in time or at once: until then it occupies the stream's
    /// window, and the peer stops when that is full.
    ///
    /// - Parameter bytes: valid until `batchEnded` returns; may be empty with `endStream`.
    open func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {}

    /// The fields behind the content; they end the peer's side.
    open func trailersReceived(_ trailers: HeaderBlock) {}

    /// Everything that one read brought for this stream has been passed to `dataReceived`: the place to write several
    /// pieces with one system call.
    open func batchEnded() {}

    /// There is room again after `reserve` or `send` said that there was not.
    open func writable() {}

    /// The stream is over. Nothing is called any more, and nothing that is sent any more goes anywhere.
    open func closed(_ reason: StreamClose) {}

    // MARK: To call

    /// Sends a response (1xx or final) or trailers.
    ///
    /// - Returns: false when the stream is over.
    @discardableResult
    public final func sendHeaders(_ headers: HeaderBlock, endStream: Bool) -> Bool {
        channel?.sendHeaders(self, headers, endStream: endStream) ?? false
    }

    /// Room for content in the channel's buffer, to be filled and then given to `commit`, with nothing else done on the
    /// channel in between.
    ///
    /// - Returns: 1 ... `limit` bytes; nil when the peer's windows, the socket or the other streams' turn forbid it. Then
    ///   `writable` will be called.
    public final func reserve(_ limit: Int) -> UnsafeMutableRawBufferPointer? {
        unsafe channel?.reserve(self, limit)
    }

    /// Sends the first `byteCount` bytes of what `reserve` gave; 0 gives the room back.
    public final func commit(_ byteCount: Int, endStream: Bool = false) {
        channel?.commit(self, byteCount, endStream: endStream)
    }

    /// Copies content into the channel's buffer.
    ///
    /// - Returns: how many bytes were taken. When that is less than all, `writable` will be called, and `endStream` was not
    ///   applied.
    public final func send(_ bytes: UnsafeRawBufferPointer, endStream: Bool = false) -> Int {
        unsafe channel?.send(self, bytes, endStream: endStream) ?? 0
    }

    /// Ends our side behind what was sent, as soon as there is room for it.
    public final func finish() {
        channel?.finish(self)
    }

    /// The application has taken bytes: the peer may send as many more.
    public final func consumed(_ byteCount: Int) {
        channel?.consumed(self, byteCount)
    }

    /// Ends the stream at once, both ways. `closed(.cancelled)` follows in this turn.
    public final func reset(_ code: ErrorCode) {
        channel?.reset(self, code)
    }

    // MARK: For the channel

    final var isFinished: Bool { isLocalEnded && isRemoteEnded && unconsumedBytes == 0 }

    final func end(_ reason: StreamClose) {
        guard channel != nil else { return }
        channel = nil
        isWindowBlocked = false
        closed(reason)
    }
}
