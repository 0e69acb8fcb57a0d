/// What a peer's bytes came to.
public enum HTTP2Event: Equatable, Sendable {
    /// A request (server), or a response (client) of which those with a status below 200 precede the final one.
    /// The block has passed RFC 9113 §8.2 and §8.3.
    case headers(StreamID, HeaderBlock, endStream: Bool)
    /// Fields behind the content. They end the peer's side of the stream.
    case trailers(StreamID, HeaderBlock)
    /// Content: a range of the input that was passed to `next`. The window stays taken until `consumed`. Frames are
    /// passed on in the pieces in which they arrive; `endStream` comes with the last, which may be empty.
    case data(StreamID, Range<Int>, endStream: Bool)
    /// The stream is over: the peer reset it, refused it with its GOAWAY, or made a mistake on it (then our RST_STREAM
    /// is in the output). Bytes that the application did not consume have been given back to the connection.
    case reset(StreamID, ErrorCode)
    /// A closed window has opened; stream 0 is the connection, whose opening may let any stream go on.
    case windowOpened(StreamID)
    /// The peer takes no new streams. Streams of ours above `lastStream` follow, each as `reset` with
    /// REFUSED_STREAM: they were not processed and may be tried again elsewhere.
    case goAway(lastStream: StreamID, ErrorCode, debug: String)
    /// The peer's limits or windows have changed: streams that waited for a window, or to be opened, may go on.
    case settingsReceived
    /// The peer has taken our settings.
    case settingsAcknowledged
    /// The answer to `ping`.
    case pong(UInt64)
}
