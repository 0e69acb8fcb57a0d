import CLinux
import Glibc

/// A counter that wakes a loop from another thread (eventfd(2)).
public struct EventDescriptor: ~Copyable, Sendable, EventSource {
    private let descriptor: Descriptor

    public init() throws(SystemCallError) {
        let number = try systemCall("eventfd", on: "wake-up counter") {
            eventfd(0, Int32(O_CLOEXEC | O_NONBLOCK))
        }
        descriptor = Descriptor(owning: number)
    }

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// Wakes the reader. Cheap, callable from any thread; several calls before a `drain` count as one wake-up.
    public func signal() {
        var one: UInt64 = 1
        // EAGAIN means that the counter is full: the reader is awake already. Nothing else can happen to an eventfd.
        while unsafe write(descriptor.number, &one, 8) < 0, errno == EINTR {}
    }

    /// How many signals came since the last drain; 0 when none did.
    @discardableResult
    public func drain() -> UInt64 {
        var count: UInt64 = 0
        let byteCount = unsafe read(descriptor.number, &count, 8)
        return byteCount == 8 ? count : 0
    }

    /// Blocks the calling thread until a signal comes or the time is over; false in the latter case.
    ///
    /// For threads that have no loop; on a loop's thread the descriptor is registered instead.
    @discardableResult
    public func wait(milliseconds: Int32) -> Bool {
        DescriptorReference(number: descriptor.number).isReadable(within: milliseconds)
    }
}

extension EventSource where Self: ~Copyable {
    /// Blocks the calling thread until there is something to read or the time is over; false in the latter case.
    ///
    /// For threads without a loop: the command line, tests.
    public func waitUntilReadable(milliseconds: Int32) -> Bool { reference.isReadable(within: milliseconds) }

    /// Blocks the calling thread until something can be written or the time is over; false in the latter case.
    public func waitUntilWritable(milliseconds: Int32) -> Bool {
        reference.isReady(for: Int16(POLLOUT), within: milliseconds)
    }
}

extension DescriptorReference {
    /// Blocks the calling thread until there is something to read or the time is over (poll(2)).
    func isReadable(within milliseconds: Int32) -> Bool {
        isReady(for: Int16(POLLIN), within: milliseconds)
    }

    fileprivate func isReady(for events: Int16, within milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: number, events: events, revents: 0)
        return unsafe poll(&entry, 1, milliseconds) > 0
    }
}
