import CLinux
import Glibc

/// A signal that programs react to.
public enum Signal: Int32, Sendable, CaseIterable {
    case hangup = 1
    case interrupt = 2
    case kill = 9
    case user1 = 10
    case user2 = 12
    case terminate = 15
    case child = 17
}

/// Signals as readable events (signalfd(2)).
///
/// The signals must be blocked in every thread: make it before any thread is started, for threads inherit the mask.
public struct SignalDescriptor: ~Copyable, Sendable, EventSource {
    private let descriptor: Descriptor

    public init(_ signals: [Signal]) throws(SystemCallError) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal.rawValue) }
        let failure = unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        guard failure == 0 else {
            throw SystemCallError(call: "pthread_sigmask", subject: "\(signals)", number: failure)
        }
        let number = try systemCall("signalfd", on: "\(signals)") {
            unsafe signalfd(-1, &set, Int32(O_CLOEXEC | O_NONBLOCK))
        }
        descriptor = Descriptor(owning: number)
    }

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// The next signal that waits; nil when there is none.
    public func next() -> Signal? {
        var information = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        guard unsafe read(descriptor.number, &information, size) == size else { return nil }
        return Signal(rawValue: Int32(truncatingIfNeeded: information.ssi_signo))
    }

    /// Blocks the calling thread for the next signal; nil when the time is over.
    public func wait(milliseconds: Int32) -> Signal? {
        DescriptorReference(number: descriptor.number).isReadable(within: milliseconds) ? next() : nil
    }
}
