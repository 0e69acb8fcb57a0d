import EventLoop
import HTTP1
import HTTP2
import HTTPTranslation
import Linux
import Mesh
import Tunnel

/// An HTTP/1 connection to an endpoint: one exchange at a time, then it waits in its pool.
final class HTTP1Upstream: ByteChannelDelegate, MessageStream {
    /// Who keeps it while it is idle.
    private weak var pool: EndpointPool?
    private let slot: ConnectionSlot
    private let loop: EventLoop
    private let channel: any ByteChannel
    private var machine: HTTP1ClientSide
    private var exchange: (any MessageStreamDelegate)?
    private var headToTell: HeaderBlock?
    private var upgrade: String?
    private var isTunnel = false
    private var owedBytes = 0
    private var output: FramedOutput
    private var isOver = false
    /// Requests sent on it.
    private(set) var requestCount = 0
    private(set) var idleSince = MonotonicTime(nanoseconds: 0)
    /// Something of the answer has come.
    private(set) var hasAnswered = false
    /// What one read brought is being looked at, and the call has more of it. Bytes behind an answer in the same read are no other
    /// request's.
    private var isInBatch = false
    private var hasMoreInCall = false
    private var wasTakenInBatch = false

    init(
        _ pool: EndpointPool, _ slot: ConnectionSlot, _ loop: EventLoop, _ channel: any ByteChannel,
        _ limits: HTTP1Limits
    ) {
        self.pool = pool
        self.slot = slot
        self.loop = loop
        self.channel = channel
        machine = HTTP1ClientSide(limits: limits)
        output = FramedOutput(channel)
    }

    func start() { channel.begin(self) }

    var isUsable: Bool { !isOver && machine.isIdle && channel.isOpen && !channel.isRemoteEnded }

    func take(_ exchange: any MessageStreamDelegate) {
        self.exchange = exchange
        wasTakenInBatch = isInBatch
        requestCount += 1
        hasAnswered = false
    }

    /// Closes one that nobody needs.
    func close() {
        guard !isOver else { return }
        isOver = true
        slot.free()
        channel.close()
    }

    // MARK: To the endpoint

    func sendHead(_ head: HeaderBlock, endStream: Bool) {
        guard exchange != nil else { return }
        do {
            var request = try HTTP1RequestHead(head)
            upgrade = request.upgrade
            if pool?.isLast(requestCount) ?? true { request.keepsAlive = upgrade != nil }
            try machine.sendHead(request, endStream: endStream || upgrade != nil, to: &output.pending)
        } catch { return fail(.malformed("the request cannot be sent: \(error)")) }
        output.flush()
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard exchange != nil else { return bytes.count }
        // Behind a request to change the protocol nothing goes before the answer.
        if upgrade != nil, !isTunnel { return 0 }
        let sent = unsafe output.send(bytes) { (count, framing) in
            do throws(HTTP1SendError) { try machine.beginData(count, to: &framing) } catch { return false }
            return true
        } after: {
            machine.endData($0, to: &$1)
        }
        if let sent { return sent }
        fail(.malformed("more content than was announced"))
        return bytes.count
    }

    func sendEnd(_ trailers: HeaderBlock) {
        guard exchange != nil else { return }
        if upgrade != nil {
            if isTunnel { channel.finish() }
            return
        }
        do throws(HTTP1SendError) {
            try machine.sendEnd(trailers: FieldBlock(trailers: trailers), to: &output.pending)
        } catch { return fail(.malformed("less content than was announced")) }
        output.flush()
    }

    func consumed(_ byteCount: Int) {
        owedBytes -= byteCount
        channel.consumed(byteCount)
    }

    func reset(_ code: ErrorCode) {
        drop()
        end(inPeace: false)
    }

    func release() {
        drop()
        guard !isOver else { return }
        guard !hasMoreInCall else { return end(inPeace: true) }
        // An answer may come before its request is whole: what follows on such a connection nobody could tell apart.
        guard machine.isIdle, !machine.isOver, output.isEmpty, let pool, !pool.isLast(requestCount) else {
            return end(inPeace: true)
        }
        idleSince = loop.now
        pool.returned(self)
    }

    func writable() {
        output.flush()
        if output.isEmpty { exchange?.writable() }
    }

    // MARK: From the endpoint

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !wasTakenInBatch else {
            channel.consumed(bytes.count)
            return fail(.disconnected)
        }
        isInBatch = true
        var offset = 0
        while !isOver {
            let start = offset
            do throws(HTTP1Error) {
                let event = try unsafe machine.next(bytes, &offset)
                hasAnswered = true
                hasMoreInCall = offset < bytes.count
                switch event {
                case .data(let range)?:
                    channel.consumed(offset - start - range.count)
                    unsafe content(UnsafeRawBufferPointer(rebasing: bytes[range]))
                case .tunnel(let range)?:
                    unsafe content(UnsafeRawBufferPointer(rebasing: bytes[range]))
                case let event?:
                    channel.consumed(offset - start)
                    handle(event)
                case nil:
                    return channel.consumed(offset - start)
                }
            } catch {
                channel.consumed(bytes.count - start)
                return fail(.malformed("\(error)"))
            }
        }
        channel.consumed(bytes.count - offset)
    }

    func batchEnded() {
        isInBatch = false
        hasMoreInCall = false
        wasTakenInBatch = false
    }

    private func handle(_ event: HTTP1Event) {
        switch event {
        case .response(let head):
            var block = HeaderBlock(head)
            if head.status == 101 {
                isTunnel = true
                block.set(":status", "101")
                exchange?.headReceived(block, endStream: false)
                // What the client has said meanwhile.
                return exchange?.writable() ?? ()
            }
            if !head.isInterim, head.framing == .none || head.framing == .length(0) {
                headToTell = block
            } else {
                exchange?.headReceived(block, endStream: false)
            }
        case .end(let trailers):
            if let head = headToTell {
                headToTell = nil
                exchange?.headReceived(head, endStream: true)
            } else {
                exchange?.ended(HeaderBlock(trailers: trailers))
            }
        case .data, .tunnel, .request: break
        }
    }

    private func content(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange else { return channel.consumed(bytes.count) }
        owedBytes += bytes.count
        unsafe exchange.received(bytes)
    }

    func remoteEnded() {
        guard !isOver else { return }
        do throws(HTTP1Error) {
            if let event = try machine.end() { handle(event) }
        } catch { return fail(.disconnected) }
        if isTunnel { return exchange?.ended(HeaderBlock()) ?? () }
        if exchange == nil { end(inPeace: true) } else if !hasAnswered { fail(.disconnected) }
    }

    func closed(_ reason: ByteChannelClose) {
        guard !isOver || exchange != nil else { return }
        fail(.disconnected)
    }

    // MARK: The end

    private func drop() {
        exchange = nil
        if owedBytes > 0 { channel.consumed(owedBytes) }
        owedBytes = 0
    }

    private func fail(_ reason: MessageClose) {
        let last = exchange
        drop()
        end(inPeace: false)
        last?.closed(reason)
    }

    private func end(inPeace: Bool) {
        guard !isOver else { return }
        isOver = true
        pool?.left(self)
        slot.free()
        guard channel.isOpen else { return }
        if inPeace { channel.close() } else { channel.abort(.failed("an exchange broke")) }
    }
}
