import EventLoop
import Tunnel

/// Looks at the first bytes of a connection: which HTTP it is, or none.
///
/// A client that says nothing for a moment is one whose server speaks first: on a port of unknown protocol it is connected through then.
final class Detection: ByteChannelDelegate {
    enum Kind: Equatable { case http1, http2, bytes }

    private let service: HTTPService
    let channel: any ByteChannel
    let client: ClientContext
    private var seen: [UInt8] = []
    private var isOver = false
    private var isLate = false
    private var isLeaving = false
    private lazy var deadline = CallbackTimer { [weak self] in self?.deadlinePassed() }

    /// RFC 9113 §3.4.
    private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    /// The longest registered method has 17 letters (RFC 9110 §16.1.1).
    private static let methodLimit = 20

    init(_ service: HTTPService, _ channel: any ByteChannel, _ client: ClientContext) {
        self.service = service
        self.channel = channel
        self.client = client
    }

    func start() {
        let configuration = service.configuration
        service.loop.schedule(
            deadline,
            after: service.port == .unknown ? configuration.detectionDeadline : configuration.headDeadline)
        channel.begin(self)
    }

    /// What bytes begin; nil while they may begin either.
    static func kind(of bytes: [UInt8]) -> Kind? {
        let common = min(bytes.count, preface.count)
        if bytes[..<common].elementsEqual(preface[..<common]) {
            return common == preface.count ? .http2 : nil
        }
        // An empty line before a request is passed over (RFC 9112 §2.2).
        let text = bytes.drop { $0 == 0x0d || $0 == 0x0a }
        for (index, byte) in text.prefix(methodLimit + 1).enumerated() {
            if byte == 0x20 { return index > 0 ? .http1 : .bytes }
            guard (0x41...0x5a).contains(byte) || byte == 0x2d || byte == 0x5f, index < methodLimit else {
                return .bytes
            }
        }
        return bytes.count - text.count > 4 ? .bytes : nil
    }

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !isOver else { return }
        unsafe seen += bytes
        guard let kind = Self.kind(of: seen) else { return }
        // What does not look like HTTP on a port for it gets HTTP/1's answer to that.
        settle(kind == .bytes && service.port == .http ? .http1 : kind)
    }

    func batchEnded() {}
    func writable() {}

    func remoteEnded() {
        guard !isOver else { return }
        if seen.isEmpty, service.port == .http {
            channel.close()
            return settle(nil)
        }
        settle(service.port == .http ? .http1 : .bytes)
    }

    func closed(_ reason: ByteChannelClose) { settle(nil) }

    /// A client that has said nothing gets a moment, for its request may be on its way; another one has the rest of its time.
    func drain() {
        guard !isOver, !isLeaving, seen.isEmpty, service.port == .http else { return }
        isLeaving = true
        service.loop.schedule(deadline, after: service.configuration.drainGrace)
    }

    private func deadlinePassed() {
        if isLeaving, seen.isEmpty {
            channel.close()
            return settle(nil)
        }
        if service.port == .unknown, seen.isEmpty { return settle(.bytes) }
        if service.port == .unknown || isLeaving, !isLate {
            // It has begun as HTTP does. Passed on now, the rest would reach an application without having met a route.
            isLate = true
            return service.loop.schedule(deadline, after: service.configuration.headDeadline)
        }
        service.metrics.headTimeouts.add()
        channel.close()
        settle(nil)
    }

    private func settle(_ kind: Kind?) {
        guard !isOver else { return }
        isOver = true
        service.loop.cancel(deadline)
        service.detected(self, kind, early: seen)
    }
}
