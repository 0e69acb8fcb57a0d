import CLinux
import Glibc

/// An open file descriptor that closes when its owner ends.
///
/// The only type in the package that holds a raw descriptor; code above `Linux` passes owners, never numbers.
public struct Descriptor: ~Copyable, Sendable {
    let number: Int32

    /// Takes over `number`, which must be open and owned by nobody else.
    init(owning number: Int32) {
        self.number = number
    }

    deinit {
        // EINTR included: Linux has freed the number by then, and a second close could hit someone else's file.
        close(number)
    }
}

/// Which descriptor an event source watches, without owning it: what an `Epoll` needs and nothing more.
public struct DescriptorReference: Sendable {
    let number: Int32
}

/// Something that becomes readable or writable and can be watched by an `Epoll`.
public protocol EventSource: ~Copyable {
    var reference: DescriptorReference { get }
}

/// How a read or write on a non-blocking descriptor went.
public enum IOResult: Equatable, Sendable {
    /// So many bytes, at least one, were moved.
    case bytes(Int)
    /// Nothing can be moved now: wait for the next event.
    case wouldBlock
    /// The peer has finished sending (reads only).
    case end
    /// The descriptor is broken; the errno value says how.
    case failed(Int32)
}

extension IOResult {
    /// Runs a call that answers a byte count or -1, retrying while a signal interrupts it.
    @inline(__always)
    static func from(_ body: () -> Int) -> IOResult {
        while true {
            let count = body()
            if count > 0 { return .bytes(count) }
            if count == 0 { return .end }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .wouldBlock
            default: return .failed(errno)
            }
        }
    }
}

/// F_DUPFD_CLOEXEC, which Swift's Glibc lacks.
let duplicateCloseOnExec: Int32 = 1030
