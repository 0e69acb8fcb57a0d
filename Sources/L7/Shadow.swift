import EventLoop
import HTTP2
import Tunnel

/// A copy of a request on its way to a mirror. Nobody waits for it: where it falls behind it is given up, and its answer is dropped.
final class Shadow: StreamWaiter {
    private let pool: EndpointPool
    private let head: HeaderBlock
    private let limit: Int
    private var backlog: Backlog
    private var isWhole: Bool
    private var trailers = HeaderBlock()
    private var stream: (any MessageStream)?
    private var isOver = false
    private var isCounted = false
    private var isSent = false
    private let timeout: Duration
    /// From the end of the request on.
    private var deadline: LoopTimer?

    init(_ pool: EndpointPool, _ head: HeaderBlock, limit: Int, timeout: Duration, endStream: Bool) {
        self.pool = pool
        self.head = head
        self.limit = limit
        self.timeout = timeout
        isWhole = endStream
        pool.upstream.mirrorsUnderWay += 1
        backlog = Backlog(pool: pool.upstream.loop.buffers)
    }

    func start(http2: Bool) {
        guard !isOver else { return }
        isCounted = true
        if isWhole { armDeadline() }
        pool.open(self, http2: http2)
    }

    private func armDeadline() {
        guard !isOver, timeout > .zero else { return }
        deadline = pool.upstream.loop.schedule(after: timeout) { [weak self] in self?.timedOut() }
    }

    private func timedOut() {
        L7Metrics.shared.mirrorsCut.add()
        cancel()
    }

    func content(_ bytes: UnsafeRawBufferPointer) {
        guard !isOver, unsafe !bytes.isEmpty else { return }
        guard backlog.byteCount + bytes.count <= limit, unsafe backlog.append(bytes) else {
            L7Metrics.shared.mirrorsCut.add()
            return cancel()
        }
        send()
    }

    func end(_ trailers: HeaderBlock) {
        isWhole = true
        self.trailers = trailers
        armDeadline()
        send()
    }

    func cancel() {
        guard !isOver else { return }
        let stream = self.stream
        over()
        if let stream { stream.reset(.cancel) } else { pool.cancel(self) }
    }

    private func send() {
        guard let stream, !isSent else { return }
        _ = unsafe backlog.drain { unsafe stream.send($0) }
        guard backlog.isEmpty, isWhole else { return }
        isSent = true
        stream.sendEnd(trailers)
    }

    private func over() {
        isOver = true
        if let deadline { pool.upstream.loop.cancel(deadline) }
        deadline = nil
        pool.upstream.mirrorsUnderWay -= 1
        stream = nil
        backlog.clear()
        if isCounted { pool.ended() }
        isCounted = false
    }

    func opened(_ stream: any MessageStream, isReused: Bool) {
        guard !isOver else { return stream.reset(.cancel) }
        self.stream = stream
        let isEmpty = isWhole && backlog.isEmpty && trailers.isEmpty
        isSent = isEmpty
        stream.sendHead(head, endStream: isEmpty)
        send()
    }

    func failed(_ failure: ConnectFailure) {
        if failure == .overflow { isCounted = false }
        if !isOver { over() }
    }

    func headReceived(_ head: HeaderBlock, endStream: Bool) { if endStream { complete() } }
    func received(_ bytes: UnsafeRawBufferPointer) { stream?.consumed(bytes.count) }
    func ended(_ trailers: HeaderBlock) { complete() }
    func writable() { send() }
    func closed(_ reason: MessageClose) { if !isOver { over() } }

    private func complete() {
        let stream = self.stream
        if !isOver { over() }
        stream?.release()
    }
}
