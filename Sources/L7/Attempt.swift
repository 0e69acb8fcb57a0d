import HTTP2
import Linux

/// One try of a request at one endpoint.
final class Attempt: StreamWaiter {
    private var exchange: Exchange?
    let pool: EndpointPool
    let began: MonotonicTime
    private(set) var stream: (any MessageStream)?
    private(set) var isReused = false
    /// Its head said that nothing follows.
    var isEnded = false
    private var isCounted = true

    init(_ exchange: Exchange, _ pool: EndpointPool, _ now: MonotonicTime) {
        self.exchange = exchange
        self.pool = pool
        began = now
    }

    func start(http2: Bool) { pool.open(self, http2: http2) }

    func opened(_ stream: any MessageStream, isReused: Bool) {
        guard let exchange else { return stream.reset(.cancel) }
        self.stream = stream
        self.isReused = isReused
        exchange.opened(self, stream)
    }

    func failed(_ failure: ConnectFailure) {
        if failure == .overflow { isCounted = false }
        let last = end()
        last?.failed(self, failure)
    }

    /// The exchange is complete.
    func release() {
        let stream = self.stream
        _ = end()
        stream?.release()
    }

    /// It is given up.
    func cancel() {
        guard exchange != nil else { return }
        let stream = self.stream
        _ = end()
        if let stream { stream.reset(.cancel) } else { pool.cancel(self) }
    }

    private func end() -> Exchange? {
        guard let last = exchange else { return nil }
        exchange = nil
        stream = nil
        if isCounted { pool.ended() }
        isCounted = false
        return last
    }

    func headReceived(_ head: HeaderBlock, endStream: Bool) {
        exchange?.headReceived(head, endStream: endStream, of: self)
    }

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange else { return }
        unsafe exchange.contentReceived(bytes, of: self)
    }

    func ended(_ trailers: HeaderBlock) { exchange?.answerEnded(trailers, of: self) }
    func writable() { exchange?.upstreamWritable() }

    func closed(_ reason: MessageClose) {
        let last = exchange
        stream = nil
        last?.closed(self, reason)
        _ = end()
    }
}
