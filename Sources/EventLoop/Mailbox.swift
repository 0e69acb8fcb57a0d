import Linux
import Synchronization

/// The way into a loop from other threads: closures that run on its thread in the order in which they were posted.
public final class Mailbox: Sendable {
    public typealias Message = @Sendable (EventLoop) -> Void

    private struct State {
        var messages: [Message] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    let wakeUp: EventDescriptor

    init() throws(SystemCallError) {
        wakeUp = try EventDescriptor()
    }

    /// Hands a message to the loop.
    ///
    /// - Returns: false when the loop has stopped: the message is dropped.
    @discardableResult
    public func post(_ message: @escaping Message) -> Bool {
        let mustWake: Bool? = state.withLock { state in
            guard !state.isClosed else { return nil }
            state.messages.append(message)
            return state.messages.count == 1
        }
        if mustWake == true { wakeUp.signal() }
        return mustWake != nil
    }

    /// How many messages wait.
    public var depth: Int { state.withLock { $0.messages.count } }

    /// Takes everything that waits, leaving `spare` behind as room for the next messages.
    func take(leaving spare: [Message]) -> [Message] {
        wakeUp.drain()
        return state.withLock { state in
            let taken = state.messages
            state.messages = spare
            return taken
        }
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            state.messages = []
        }
    }
}

/// Carries a value of one loop through other threads and back: they may hold it, only its own thread may look inside.
///
/// Sendable without a check by the compiler because `value` checks the thread on every access and ends the process on a
/// wrong one: that is a mistake of ours, never a peer's. The last reference may be dropped anywhere, so hold nothing whose
/// `deinit` needs the loop.
public struct LoopBound<Value>: @unchecked Sendable {
    private let thread = Thread.currentToken
    private let content: Value

    public init(_ value: Value) {
        content = value
    }

    public var value: Value {
        precondition(Thread.currentToken == thread, "a value of one loop was touched on another thread")
        return content
    }
}
