import EventLoop
import HTTP1
import HTTP2
import HTTPTranslation
import Mesh
import Tunnel

/// A client's HTTP/1 connection: its requests, one after another, each an exchange.
final class HTTP1Downstream: ByteChannelDelegate, MessageStream {
    private let service: HTTPService
    private let client: ClientContext
    private let channel: any ByteChannel
    private var machine: HTTP1ServerSide
    /// The exchange of the request under way.
    private var exchange: (any MessageStreamDelegate)?
    private var upgrade: String?
    /// A request without content, until the machine has seen its end.
    private var headToTell: HeaderBlock?
    private var isTunnel = false
    /// The exchange has sent its answer, and will say that it is done.
    private var isAnswered = false
    /// Bytes of a request whose turn has not come: not consumed, so the channel's window bounds them.
    private var held: [UInt8] = []
    /// Content that the exchange has and has not consumed.
    private var owedBytes = 0
    private var isFeeding = false
    private var output: FramedOutput
    /// The channel ends when everything is sent.
    private var closesWhenFlushed = false
    private var isOver = false
    private var hasRemoteEnded = false
    private var isTimingHead = false
    private lazy var deadline = CallbackTimer { [weak self] in self?.deadlinePassed() }

    init(_ service: HTTPService, _ channel: any ByteChannel, _ client: ClientContext) {
        self.service = service
        self.channel = channel
        self.client = client
        machine = HTTP1ServerSide(limits: service.configuration.http1)
        output = FramedOutput(channel)
    }

    /// - Parameter early: what somebody else has read and not consumed.
    func start(early: [UInt8]) {
        service.opened(self)
        service.loop.schedule(deadline, after: service.configuration.idleTimeout)
        unsafe early.withUnsafeBytes { unsafe received($0) }
        if !isOver { channel.begin(self) }
    }

    /// No request after the one under way.
    func drain() {
        if exchange == nil, held.isEmpty, !machine.isWithinRequest {
            end()
        } else {
            closesWhenFlushed = true
        }
    }

    // MARK: From the client

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !isOver else { return channel.consumed(bytes.count) }
        if held.isEmpty, !isFeeding {
            unsafe feed(bytes)
        } else {
            unsafe held += bytes
            if !isFeeding { feedHeld() }
        }
    }

    func batchEnded() {}

    private func feedHeld() {
        guard !held.isEmpty, !isFeeding, machine.wantsInput, mayFeed else { return }
        let bytes = held
        held = []
        unsafe bytes.withUnsafeBytes { unsafe feed($0) }
    }

    /// A client that does not read its answers gets no further ones, so that they do not pile up here.
    private var mayFeed: Bool { exchange != nil || output.isEmpty }

    private func feed(_ bytes: UnsafeRawBufferPointer) {
        isFeeding = true
        var offset = 0
        var failure: HTTP1Error?
        while !isOver, mayFeed {
            let start = offset
            do throws(HTTP1Error) {
                let event = try unsafe machine.next(bytes, &offset)
                if case .data(let range)? = event {
                    channel.consumed(offset - start - range.count)
                    unsafe content(UnsafeRawBufferPointer(rebasing: bytes[range]))
                } else if case .tunnel(let range)? = event {
                    unsafe content(UnsafeRawBufferPointer(rebasing: bytes[range]))
                } else {
                    channel.consumed(offset - start)
                    guard let event else { break }
                    try handle(event)
                }
            } catch {
                failure = error
                break
            }
        }
        isFeeding = false
        if isOver || failure != nil {
            channel.consumed(bytes.count - offset)
        } else if offset < bytes.count {
            unsafe held.insert(contentsOf: bytes[offset...], at: 0)
        }
        if let failure { refuse(failure) } else { time() }
    }

    private func handle(_ event: HTTP1Event) throws(HTTP1Error) {
        switch event {
        case .request(let head):
            let block = try HeaderBlock(head, scheme: client.scheme)
            upgrade = head.upgrade
            if upgrade == nil, head.framing == .none || head.framing == .length(0) {
                headToTell = block
            } else {
                begin(block, endStream: false)
            }
        case .end(let trailers):
            if let head = headToTell {
                headToTell = nil
                begin(head, endStream: true)
            } else if upgrade == nil {
                exchange?.ended(HeaderBlock(trailers: trailers))
            }
        case .data, .tunnel, .response: break
        }
    }

    private func begin(_ head: HeaderBlock, endStream: Bool) {
        let exchange = Exchange(service, client, self, httpVersion: .http1)
        self.exchange = exchange
        exchange.begin(head, endStream: endStream)
    }

    private func content(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange else { return channel.consumed(bytes.count) }
        owedBytes += bytes.count
        unsafe exchange.received(bytes)
    }

    /// What cannot be read ends the connection, with an answer where one is owed; nothing of it goes on to anybody.
    private func refuse(_ error: HTTP1Error) {
        service.metrics.refusedRequests.add()
        let last = exchange
        drop()
        headToTell = nil
        last?.closed(.malformed("\(error)"))
        var head = HTTP1ResponseHead(status: error.status)
        head.fields.append("content-length", "0")
        if let name = service.configuration.serverName { head.fields.append("server", name) }
        do throws(HTTP1SendError) {
            try machine.sendHead(head, endStream: true, to: &output.pending)
            end()
        } catch {
            // An answer is under way already: that it is cut off tells the client.
            abort()
        }
    }

    func remoteEnded() {
        hasRemoteEnded = true
        guard !isOver else { return }
        do throws(HTTP1Error) { try machine.end() } catch { return refuse(error) }
        if isTunnel {
            exchange?.ended(HeaderBlock())
        } else if exchange == nil {
            end()
        } else {
            // What was asked for may still be answered; nothing comes behind it.
            closesWhenFlushed = true
        }
    }

    func closed(_ reason: ByteChannelClose) {
        finish()
        let last = exchange
        drop()
        last?.closed(.disconnected)
    }

    // MARK: To the client

    func sendHead(_ head: HeaderBlock, endStream: Bool) {
        guard exchange != nil else { return }
        let status = head.status ?? 0
        do {
            var response: HTTP1ResponseHead
            if status == 101 {
                var granted = head
                granted.set(":status", "200")
                response = try HTTP1ResponseHead(granted, upgrade: upgrade)
            } else {
                response = try HTTP1ResponseHead(head)
            }
            if closesWhenFlushed, status != 101 { response.keepsAlive = false }
            try machine.sendHead(response, endStream: endStream, to: &output.pending)
        } catch { return abort() }
        if status == 101 { isTunnel = true }
        output.flush()
        if endStream, status >= 200 { isAnswered = true }
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard exchange != nil else { return bytes.count }
        return unsafe output.send(bytes) { (count, framing) in
            do throws(HTTP1SendError) { try machine.beginData(count, to: &framing) } catch { return false }
            return true
        } after: {
            machine.endData($0, to: &$1)
        } ?? failed(bytes.count)
    }

    private func failed(_ byteCount: Int) -> Int {
        abort()
        return byteCount
    }

    func sendEnd(_ trailers: HeaderBlock) {
        guard exchange != nil else { return }
        if isTunnel { return channel.finish() }
        do throws(HTTP1SendError) {
            try machine.sendEnd(trailers: FieldBlock(trailers: trailers), to: &output.pending)
        } catch { return abort() }
        output.flush()
        isAnswered = true
    }

    func consumed(_ byteCount: Int) {
        owedBytes -= byteCount
        channel.consumed(byteCount)
    }

    func reset(_ code: ErrorCode) {
        drop()
        abort()
    }

    /// The answer is whole: the next request's turn.
    func release() {
        guard exchange != nil else { return }
        let isAnswered = self.isAnswered
        drop()
        if !isAnswered || machine.isOver || closesWhenFlushed { return end() }
        if !isFeeding { feedHeld() }
        time()
    }

    func writable() {
        output.flush()
        guard output.isEmpty else { return }
        if let exchange { return exchange.writable() }
        if closesWhenFlushed { return end() }
        feedHeld()
    }

    private func drop() {
        exchange = nil
        isAnswered = false
        if owedBytes > 0 { channel.consumed(owedBytes) }
        owedBytes = 0
    }

    // MARK: The end

    private func end() {
        guard !isOver else { return }
        output.flush()
        closesWhenFlushed = true
        guard output.isEmpty else { return }
        finish()
        channel.close()
    }

    private func abort() {
        guard !isOver else { return }
        finish()
        let last = exchange
        drop()
        last?.closed(.disconnected)
        channel.abort(.failed("an exchange broke"))
    }

    private func finish() {
        guard !isOver else { return }
        isOver = true
        service.loop.cancel(deadline)
        service.ended(self)
        if !held.isEmpty { channel.consumed(held.count) }
        held = []
    }

    // MARK: Deadlines

    /// A head has so long from its first byte to its last; a connection without requests has the idle time.
    private func time() {
        guard !isOver else { return }
        if exchange != nil {
            isTimingHead = false
            return service.loop.cancel(deadline)
        }
        if machine.isWithinRequest {
            guard !isTimingHead else { return }
            isTimingHead = true
            service.loop.schedule(deadline, after: service.configuration.headDeadline)
        } else if isTimingHead || !deadline.isArmed {
            isTimingHead = false
            service.loop.schedule(deadline, after: service.configuration.idleTimeout)
        }
    }

    private func deadlinePassed() {
        guard !isOver, exchange == nil else { return }
        guard isTimingHead else {
            service.metrics.idleConnections.add()
            return end()
        }
        service.metrics.headTimeouts.add()
        // The machine answers requests, and there is none yet.
        output.pending +=
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".utf8
        end()
    }
}
