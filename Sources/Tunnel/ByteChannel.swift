import Mesh

/// Both directions of one connection as bytes, on one loop: a tunnel's stream or a socket. Who works on connections need not know which.
///
/// Bytes that were received occupy a window until they are consumed; a full window stops the peer. Bytes that were sent go out at the end of the
/// turn. Each direction ends for itself.
public protocol ByteChannel: AnyObject {
    /// The channel is not over: what is sent may arrive.
    var isOpen: Bool { get }
    /// We have ended our direction.
    var isLocalEnded: Bool { get }
    /// The peer has ended its direction, and everything before that was handed over.
    var isRemoteEnded: Bool { get }

    /// Begins to hand over what comes, or hands over to somebody else from here on. What came before the first call comes first, and may come
    /// before this returns. The channel keeps its delegate until `closed`.
    func begin(_ delegate: any ByteChannelDelegate)

    /// Room to be filled and then given to `commit`, with nothing else done on the channel in between.
    ///
    /// - Returns: 1 ... `limit` bytes; nil when nothing can be taken now. Then `writable` will be called.
    func reserve(_ limit: Int) -> UnsafeMutableRawBufferPointer?

    /// Sends the first `byteCount` bytes of what `reserve` gave; 0 gives the room back.
    func commit(_ byteCount: Int)

    /// Copies bytes and sends them.
    ///
    /// - Returns: how many were taken. When that is less than all, `writable` will be called.
    func send(_ bytes: UnsafeRawBufferPointer) -> Int

    /// Received bytes have been taken: as many more may come.
    func consumed(_ byteCount: Int)

    /// Ends our direction behind what was sent.
    func finish()

    /// Lets go in peace: what was sent arrives, and nothing more is wanted of the peer. `closed(.local)` or `.finished` follows.
    func close()

    /// Breaks the connection, so that the peer sees it broken. `closed(.local)` follows in this turn.
    ///
    /// - Parameter reason: `resetByClient`, `resetByServer` or `failed`: the other party broke it, and what it sent before is still delivered.
    func abort(_ reason: CloseReason)
}

/// Whom a byte channel tells what happens. All calls come on its loop.
public protocol ByteChannelDelegate: AnyObject {
    /// Content; call `consumed` for it, at once or later.
    ///
    /// - Parameter bytes: not empty; valid until the `batchEnded` that follows returns.
    func received(_ bytes: UnsafeRawBufferPointer)

    /// Everything that one read brought has been handed over.
    func batchEnded()

    /// There is room again after `reserve` or `send` said that there was not.
    func writable()

    /// No more comes; our direction goes on.
    func remoteEnded()

    /// The channel is over. Comes exactly once, and last.
    func closed(_ reason: ByteChannelClose)
}

/// How a byte channel ended.
public enum ByteChannelClose: Equatable, Sendable {
    /// Both directions ended in order.
    case finished
    /// The peer has said what it had to say and takes no more.
    case declined
    /// The peer broke the connection.
    case reset
    /// We ended it.
    case local
    case failed(String)
}
