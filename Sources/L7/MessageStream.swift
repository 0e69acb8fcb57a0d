import HTTP2

/// One exchange on a connection, whichever HTTP the connection speaks: the proxy's end of a request that came, or of one that goes out.
///
/// Heads are header blocks as HTTP/2 has them. A request to change the protocol is an extended CONNECT (RFC 8441 §4); the answer that grants it
/// has the status 101, so that it is told from a 2xx that does not.
protocol MessageStream: AnyObject {
    /// Sends a head: interim responses, then the final one; or the request.
    func sendHead(_ head: HeaderBlock, endStream: Bool)

    /// Sends content, copied once.
    ///
    /// - Returns: how many bytes were taken. When that is less than all, `writable` follows.
    func send(_ bytes: UnsafeRawBufferPointer) -> Int

    /// Ends our message, with trailers where there are any.
    func sendEnd(_ trailers: HeaderBlock)

    /// Received content has been taken: as much more may come.
    func consumed(_ byteCount: Int)

    /// Gives the exchange up. Nothing is called any more.
    func reset(_ code: ErrorCode)

    /// Everything was said in both directions, or nothing more is wanted of the other one. Nothing is called any more.
    func release()
}

/// Whom a message stream tells what comes. All calls come on its loop.
protocol MessageStreamDelegate: AnyObject {
    /// A response: interim ones precede the final one.
    func headReceived(_ head: HeaderBlock, endStream: Bool)

    /// Content; it lies where it is during the call only. `consumed` is owed for it.
    func received(_ bytes: UnsafeRawBufferPointer)

    /// The message is whole; with `endStream` in the head this does not come.
    func ended(_ trailers: HeaderBlock)

    /// There is room again after `send` said that there was not.
    func writable()

    /// The exchange broke. Nothing is called any more.
    func closed(_ reason: MessageClose)
}

/// How an exchange broke.
enum MessageClose: Equatable, Sendable {
    case reset(ErrorCode)
    /// The peer has not begun with it (RFC 9113 §8.7): it may be sent elsewhere.
    case refused
    /// Its connection ended.
    case disconnected
    /// What the peer sent cannot be read.
    case malformed(String)
}
