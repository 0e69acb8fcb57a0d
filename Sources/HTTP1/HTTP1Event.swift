/// What a peer's bytes came to. Ranges are of the input that was passed to `next`; content is never kept.
public enum HTTP1Event: Hashable, Sendable {
    /// On the server's side. Its fields are without those that were for this connection alone.
    case request(HTTP1RequestHead)
    /// On the client's side; those with `isInterim` precede the final one.
    case response(HTTP1ResponseHead)
    case data(Range<Int>)
    /// The message is whole. Trailers that would change what was done with its head are not among these.
    case end(trailers: FieldBlock)
    /// Bytes of the protocol that both sides changed to, or of a CONNECT's tunnel.
    case tunnel(Range<Int>)
}
