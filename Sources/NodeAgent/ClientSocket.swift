import Address
import Decision
import EventLoop
import Linux
import Tunnel

/// The socket of an application that waits for its other side to come about.
final class ClientSocket: Pollable, FirstBytes {
    private let loop: EventLoop
    private var socket: Socket?
    private var registration = Registration.none
    private var gone: (() -> Void)?
    private lazy var patience = CallbackTimer { [unowned self] in
        if hasFailed { gone?() } else { register() }
    }
    /// The connection failed while it was looked at. The kernel says so once (SO_ERROR, socket(7)), and from then on
    /// reports an end in order.
    private(set) var hasFailed = false

    /// Most connections have their other side by then, and need not be watched at all: two system calls less.
    private static let watchAfter = Duration.milliseconds(100)

    init(_ loop: EventLoop, _ socket: consuming Socket) {
        self.loop = loop
        self.socket = consume socket
    }

    /// Where the application was going: the socket's own address, unless it was redirected to one of the daemon's ports.
    var destination: SocketAddress? {
        guard let local = socket?.localAddress else { return nil }
        return proxyPorts.contains(local.port) ? socket?.originalDestination ?? local : local
    }

    /// Calls back when the client has given up. Its end of sending alone says nothing: it may be a whole request.
    func watch(_ gone: @escaping () -> Void) {
        self.gone = gone
        loop.schedule(patience, after: hasFailed ? .zero : Self.watchAfter)
    }

    private func register() {
        switch socket {
        // Should it fail, then only nobody notices a client that goes early.
        case .some(let socket): registration = (try? loop.register(self, socket, [])) ?? .none
        case .none: break
        }
    }

    override func ready(_ events: Events) {
        if events.contains(.hangup) { gone?() }
    }

    func peek(into area: UnsafeMutableRawBufferPointer) -> Int {
        switch unsafe socket?.peek(into: area) {
        case .bytes(let byteCount): return byteCount
        case .failed:
            hasFailed = true
            // Not from here: who looks is in the middle of something.
            if gone != nil { loop.schedule(patience, after: .zero) }
            return 0
        default: return 0
        }
    }

    /// Hands the socket over; nil when that was done before.
    func take() -> Socket? {
        gone = nil
        loop.cancel(patience)
        loop.deregister(registration)
        registration = .none
        return socket.take()
    }
}

extension Optional where Wrapped == ClientSocket {
    /// Hands the socket over and lets go of what watched it; nil when that was done before.
    mutating func takeSocket() -> Socket? {
        guard let client = take() else { return nil }
        return client.take()
    }
}
