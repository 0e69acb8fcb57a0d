import EventLoop
import Linux
import Mesh

/// How an application's socket is let go of.
enum SocketEnding {
    /// With FIN: everything was said.
    case inPeace
    /// With RST, once the application's side has what came before it. A reset drops what the kernel has not sent yet,
    /// and between two hosts that would have arrived.
    case resetAfterDelivery
    /// With RST at once.
    case resetNow

    /// What fits the reason: connections that we cut end at once, those that the other side broke as it broke them.
    init(_ reason: CloseReason) {
        switch reason {
        case .completed: self = .inPeace
        case .resetByClient, .resetByServer, .failed: self = .resetAfterDelivery
        default: self = .resetNow
        }
    }

    /// - Parameter registration: the socket's on the loop; given up.
    func apply(to socket: consuming Socket, on loop: EventLoop, _ registration: Registration) {
        if self == .resetAfterDelivery, socket.unsentByteCount > 0 {
            loop.deregister(registration)
            return LateReset(socket, loop).arm()
        }
        loop.deregisterClosing(registration)
        if self != .inPeace { socket.reset() }
    }
}

/// A socket that is reset as soon as what was written to it has arrived, or after a while.
private final class LateReset: LoopTimer {
    private var socket: Socket?
    private let loop: EventLoop
    private let deadline: MonotonicTime

    private static let patience = Duration.seconds(5)
    private static let interval = Duration.milliseconds(20)

    init(_ socket: consuming Socket, _ loop: EventLoop) {
        self.loop = loop
        deadline = loop.now + Self.patience
        self.socket = .some(socket)
    }

    /// The loop keeps an armed timer alive, and with it the socket.
    func arm() { loop.schedule(self, after: Self.interval) }

    override func fired() {
        if loop.now < deadline, (socket?.unsentByteCount ?? 0) > 0 { return arm() }
        if let socket = socket.take() { socket.reset() }
    }
}
