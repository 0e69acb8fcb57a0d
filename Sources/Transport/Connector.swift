import Address
import EventLoop
import Glibc
import Linux

/// How making a connection ended.
public enum ConnectResult: ~Copyable {
    case connected(Socket)
    /// The errno value.
    case failed(Int32)
    case timedOut
    /// `cancel` was called.
    case cancelled
}

/// Waits for a connection that is being made, for so long and no longer.
public final class Connector: Pollable {
    private let loop: EventLoop
    private var socket: Socket?
    private var registration = Registration.none
    private var completion: ((consuming ConnectResult) -> Void)?
    private lazy var deadline = CallbackTimer { [weak self] in self?.finish(.timedOut) }

    /// - Parameters:
    ///   - socket: from `Socket.connect`.
    ///   - completion: called once, on the loop, never before this returns.
    public init(
        on loop: EventLoop, _ socket: consuming Socket, within limit: Duration = .seconds(10),
        _ completion: @escaping (consuming ConnectResult) -> Void
    ) throws(SystemCallError) {
        self.loop = loop
        self.completion = completion
        self.socket = nil
        super.init()
        registration = try loop.register(self, socket, .writable)
        self.socket = consume socket
        loop.schedule(deadline, after: limit)
    }

    public override func ready(_ events: Events) {
        let failure = socket?.connectError() ?? EBADF
        guard failure == 0 else { return finish(.failed(failure)) }
        deregister()
        guard let connected = socket.take() else { return }
        finish(.connected(connected))
    }

    /// Gives up; the completion is called with `cancelled` unless it was called already.
    public func cancel() {
        finish(.cancelled)
    }

    private func deregister() {
        loop.cancel(deadline)
        loop.deregister(registration)
        registration = .none
    }

    private func finish(_ result: consuming ConnectResult) {
        guard let completion else { return }
        self.completion = nil
        deregister()
        socket = nil
        completion(result)
    }
}
