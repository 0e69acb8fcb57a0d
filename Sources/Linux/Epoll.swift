import CLinux
import Glibc

/// What a descriptor is ready for, or is watched for (epoll_ctl(2)).
public struct Events: OptionSet, Sendable {
    public let rawValue: UInt32

    @inline(__always)
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let readable = Events(rawValue: 0x001)
    public static let writable = Events(rawValue: 0x004)
    /// Both directions are over, or an error is pending. Always reported, asked for or not.
    public static let hangup = Events(rawValue: 0x008 | 0x010)
    /// The peer has shut down its sending side; data may still wait in front of it.
    public static let peerClosed = Events(rawValue: 0x2000)
}

/// One event as the kernel delivers it.
@frozen
public struct ReadyEvent: Sendable {
    /// What was given when the descriptor was added.
    public let token: UInt64
    public let events: Events
}

/// A level-triggered readiness set with room for the events of one wait (epoll(7)).
///
/// Level-triggered because edge-triggered loops lost a FIN that arrived together with data, and gained nothing.
@safe
public struct Epoll: ~Copyable {
    private let descriptor: Descriptor
    private let ready: UnsafeMutablePointer<epoll_event>
    private let capacity: Int32

    /// - Parameter capacity: the most events one `wait` delivers; others come with the next.
    public init(capacity: Int = 256) throws(SystemCallError) {
        precondition((1...65_536).contains(capacity), "an epoll set delivers 1 to 65,536 events a turn")
        let number = try systemCall("epoll_create1", on: "event loop") { epoll_create1(EPOLL_CLOEXEC_FLAG) }
        descriptor = Descriptor(owning: number)
        self.capacity = Int32(capacity)
        unsafe ready = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
        unsafe ready.initialize(repeating: epoll_event(), count: capacity)
    }

    deinit {
        unsafe ready.deallocate()
    }

    /// Watches a descriptor; `token` comes back with each of its events.
    public func add(
        _ source: DescriptorReference, _ interest: Events, token: UInt64
    ) throws(SystemCallError) {
        try control(EPOLL_CTL_ADD, source, interest, token)
    }

    /// Changes what a descriptor is watched for.
    public func modify(
        _ source: DescriptorReference, _ interest: Events, token: UInt64
    ) throws(SystemCallError) {
        try control(EPOLL_CTL_MOD, source, interest, token)
    }

    /// Stops watching a descriptor, which must still be open.
    public func remove(_ source: DescriptorReference) throws(SystemCallError) {
        try control(EPOLL_CTL_DEL, source, [], 0)
    }

    /// Waits for events.
    ///
    /// - Parameter milliseconds: the longest wait; 0 only looks, -1 waits for ever.
    /// - Returns: how many events `subscript` now holds; 0 also when a signal interrupted the wait.
    public func wait(milliseconds: Int32) -> Int {
        let count = unsafe epoll_wait(descriptor.number, ready, capacity, milliseconds)
        return max(0, Int(count))
    }

    /// An event of the last `wait`.
    public subscript(index: Int) -> ReadyEvent {
        precondition(index >= 0 && index < Int(capacity), "no such event")
        let event = unsafe ready[index]
        return unsafe ReadyEvent(token: event.data.u64, events: Events(rawValue: event.events))
    }

    private func control(
        _ operation: Int32, _ source: DescriptorReference, _ interest: Events, _ token: UInt64
    ) throws(SystemCallError) {
        var event = unsafe epoll_event()
        unsafe event.events = interest.rawValue
        unsafe event.data.u64 = token
        guard unsafe epoll_ctl(descriptor.number, operation, source.number, &event) == 0 else {
            throw SystemCallError(call: "epoll_ctl", subject: "descriptor \(source.number)", number: errno)
        }
    }
}

private let EPOLL_CLOEXEC_FLAG = Int32(O_CLOEXEC)
