import Linux
import Metrics

/// A loop that runs on a thread of its own, as other threads see it.
public final class LoopThread: Sendable {
    public let name: String
    public let mailbox: Mailbox
    private let thread: Thread

    fileprivate init(name: String, mailbox: Mailbox, thread: Thread) {
        self.name = name
        self.mailbox = mailbox
        self.thread = thread
    }

    /// Ends the loop after its present turn. Connections are closed with the objects that own them.
    public func stop() {
        mailbox.post { $0.stop() }
    }

    /// Waits until the thread has ended.
    public func join() {
        thread.join()
    }
}

extension EventLoop {
    /// Makes a loop and runs it on a new thread.
    ///
    /// - Parameter setUp: runs first of all on the loop's thread.
    public static func start(
        name: String, _ configuration: Configuration = Configuration(), registry: Registry = .shared,
        setUp: @escaping @Sendable (EventLoop) -> Void = { _ in }
    ) throws(SystemCallError) -> LoopThread {
        let handOver = HandOver(try EventLoop(name: name, configuration, registry: registry))
        let mailbox = handOver.loop.mailbox
        let thread = try Thread.start(name: name) {
            setUp(handOver.loop)
            handOver.loop.run()
        }
        return LoopThread(name: name, mailbox: mailbox, thread: thread)
    }
}

/// Sendable without a check because the loop is made on one thread, handed over, and from then on touched by the other only.
private struct HandOver: @unchecked Sendable {
    let loop: EventLoop

    init(_ loop: EventLoop) {
        self.loop = loop
    }
}
