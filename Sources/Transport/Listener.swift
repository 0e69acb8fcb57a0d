import EventLoop
import Linux
import Log
import Metrics

/// Accepts connections on a loop.
///
/// A bounded number a turn, so that a flood of connections does not starve the ones that exist; when descriptors or memory
/// run out it pauses, for a level-triggered loop would otherwise spin on what it cannot accept.
public final class Listener: Pollable {
    /// Connections accepted in one turn.
    private static let turnBudget = 64
    private static let pause = Duration.milliseconds(100)

    private let loop: EventLoop
    private var socket: Socket?
    private var registration = Registration.none
    private let handler: (consuming Accepted) -> Void
    private lazy var resume = CallbackTimer { [weak self] in self?.setAccepting(true) }
    private static let logger = Logger(scope: "listener")
    private static let pauses = Registry.shared.counter(
        "warren_listener_pauses", "Times that accepting was paused because descriptors or memory ran out.")

    /// - Parameter handler: takes each connection; called on the loop.
    public init(
        on loop: EventLoop, _ socket: consuming Socket, _ handler: @escaping (consuming Accepted) -> Void
    ) throws(SystemCallError) {
        self.loop = loop
        self.handler = handler
        self.socket = nil
        super.init()
        registration = try loop.register(self, socket, .readable)
        self.socket = consume socket
    }

    public override func ready(_ events: Events) {
        for _ in 0..<Listener.turnBudget {
            do throws(SystemCallError) {
                guard let accepted = try socket?.accept() else { return }
                handler(accepted)
            } catch {
                Listener.logger.limited(.seconds(1), .error, "accepting is paused", ["error": "\(error)"])
                Listener.pauses.add()
                setAccepting(false)
                loop.schedule(resume, after: Listener.pause)
                return
            }
        }
    }

    /// Stops or resumes accepting; connections meanwhile wait in the kernel's queue.
    public func setAccepting(_ on: Bool) {
        loop.cancel(resume)
        loop.update(registration, on ? .readable : [])
    }

    /// Ends listening; the kernel refuses what comes from now on.
    public func close() {
        loop.cancel(resume)
        loop.deregister(registration)
        registration = .none
        socket = nil
    }
}
