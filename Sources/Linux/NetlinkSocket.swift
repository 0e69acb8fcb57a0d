import CLinux
import Glibc

/// A netlink socket of the namespace that the thread is in when it is opened; it stays there wherever the thread goes.
///
/// Carries whole messages only; what they mean is the caller's (rtnetlink(7), nfnetlink). Answers are taken from the
/// kernel alone: another process of the namespace cannot slip one in.
public struct NetlinkSocket: ~Copyable {
    public enum Subsystem: Int32, Sendable {
        case route = 0
        case netfilter = 12
    }

    /// One reading of the socket.
    public enum Received: Equatable, Sendable {
        case bytes(Int)
        /// Nothing has come.
        case nothing
        /// The kernel dropped messages because they were not read in time; what they said is lost.
        case overrun
    }

    private let descriptor: Descriptor

    /// - Parameter groups: multicast groups to hear (`RTNLGRP_…`, `NFNLGRP_…`).
    public init(_ subsystem: Subsystem, groups: [UInt32] = []) throws(SystemCallError) {
        let number = try systemCall("socket", on: "netlink") {
            clinux_socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), subsystem.rawValue)
        }
        let descriptor = Descriptor(owning: number)
        try systemCall("bind", on: "netlink") { clinux_netlink_bind(number) }
        // Explanations in words, and errors without a copy of what was asked. An old kernel knows neither; no harm.
        _ = clinux_netlink_explain(number)
        for group in groups {
            try systemCall("setsockopt", on: "netlink group \(group)") { clinux_netlink_join(number, group) }
        }
        self.descriptor = descriptor
    }

    /// Sends one message, or one batch of them, whole.
    public func send(_ bytes: [UInt8]) throws(SystemCallError) {
        try systemCall("send", on: "netlink") {
            let sent = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(descriptor.number, $0.baseAddress, $0.count, 0)
            }
            return Int32(truncatingIfNeeded: sent)
        }
    }

    /// Reads the next datagram, which holds whole messages. Waits for it at most `deadline`; by default not at all.
    ///
    /// - Throws: also when `buffer` is too small for it (EMSGSIZE); 32 KiB holds whatever the kernel sends.
    public func receive(
        into buffer: UnsafeMutableRawBufferPointer, within deadline: Duration = .zero
    ) throws(SystemCallError) -> Received {
        while true {
            var sender: UInt32 = 0
            let count = unsafe clinux_netlink_receive(
                descriptor.number, buffer.baseAddress, buffer.count, &sender)
            if count < 0 {
                switch errno {
                case EINTR: continue
                case ENOBUFS: return .overrun
                case EAGAIN:
                    guard deadline > .zero, try isReadable(within: deadline) else { return .nothing }
                    continue
                default: throw SystemCallError(call: "recvfrom", subject: "netlink", number: errno)
                }
            }
            guard count <= buffer.count else {
                throw SystemCallError(call: "recvfrom", subject: "netlink", number: EMSGSIZE)
            }
            // 0 is the kernel. A privileged process of the same namespace may send to us too; it is not heard.
            if sender == 0 { return .bytes(count) }
        }
    }

    private func isReadable(within deadline: Duration) throws(SystemCallError) -> Bool {
        let parts = deadline.components
        let milliseconds = parts.seconds * 1000 + parts.attoseconds / 1_000_000_000_000_000
        var watched = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
        return try systemCall("poll", on: "netlink") {
            unsafe poll(&watched, 1, Int32(clamping: max(1, milliseconds)))
        } > 0
    }
}

extension NetlinkSocket: EventSource {
    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }
}
