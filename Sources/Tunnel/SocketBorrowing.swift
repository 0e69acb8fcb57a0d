import EventLoop
import Linux

// A borrow of an optional owner reaches only as far as one call, so these calls are made here.
extension Optional where Wrapped == Socket {
    borrowing func watch(
        _ pollable: Pollable, _ loop: EventLoop, _ interest: Events
    ) throws(SystemCallError) -> Registration? {
        switch self {
        case .some(let socket): try loop.register(pollable, socket, interest)
        case .none: nil
        }
    }

    borrowing func write(_ pieces: borrowing PieceList, moreFollows: Bool) -> IOResult {
        switch self {
        case .some(let socket): pieces.write(to: socket, moreFollows: moreFollows)
        case .none: .wouldBlock
        }
    }

    borrowing func flush(_ backlog: inout Backlog, _ written: inout Int) -> IOResult {
        switch self {
        case .some(let socket): backlog.flush(to: socket, written: &written)
        case .none: .wouldBlock
        }
    }

    borrowing func drain(_ pipe: SplicePipe) -> IOResult {
        switch self {
        case .some(let socket): pipe.drain(into: socket)
        case .none: .wouldBlock
        }
    }

    borrowing func fill(_ pipe: SplicePipe, atMost limit: Int) -> IOResult {
        switch self {
        case .some(let socket): pipe.fill(from: socket, atMost: limit)
        case .none: .wouldBlock
        }
    }
}
