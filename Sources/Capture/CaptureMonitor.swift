import Linux

/// Tells that something of a namespace's nftables rules or routing has changed, so that drift is repaired at once.
///
/// Watch both sources for readability, and when one is, `drain` and have the namespace verified. Our own writes wake it
/// too, and so does what other people do to their own tables; a verification that finds nothing is the answer to that.
public struct CaptureMonitor: ~Copyable {
    public let tables: NetlinkSocket
    public let routing: NetlinkSocket

    /// Subscribes in the namespace; the sockets stay there. They keep the namespace alive: drop the monitor with the
    /// workload.
    public init(_ namespace: borrowing NetworkNamespace) throws(CaptureError) {
        // One after the other into constants: an initializer may not fail halfway through its own properties.
        let tables = try Self.subscribe(namespace, .netfilter, [nftablesGroup])
        let routing = try Self.subscribe(namespace, .route, routingGroups)
        self.tables = tables
        self.routing = routing
    }

    private static func subscribe(
        _ namespace: borrowing NetworkNamespace, _ subsystem: NetlinkSocket.Subsystem, _ groups: [UInt32]
    ) throws(CaptureError) -> NetlinkSocket {
        do {
            return try namespace.perform { () throws(SystemCallError) in
                try NetlinkSocket(subsystem, groups: groups)
            }
        } catch {
            throw .refused(.monitor, object: error.subject, number: error.number, detail: nil)
        }
    }

    /// Reads everything that waits.
    ///
    /// - Returns: whether something has changed, or may have (the kernel dropped messages).
    public func drain() throws(CaptureError) -> Bool {
        // Both are always emptied: a level-triggered loop would turn on the one left over.
        let changed = (tables: try drain(tables), routing: try drain(routing))
        return changed.tables || changed.routing
    }

    private func drain(_ socket: borrowing NetlinkSocket) throws(CaptureError) -> Bool {
        var hasChanged = false
        var failure: SystemCallError?
        unsafe withUnsafeTemporaryAllocation(byteCount: 32_768, alignment: 16) { buffer in
            do throws(SystemCallError) {
                // What the messages say does not matter, so one that is longer than the buffer is no loss.
                while try unsafe socket.receive(into: buffer) != .nothing { hasChanged = true }
            } catch {
                failure = error
            }
        }
        if let failure {
            throw .refused(.monitor, object: failure.subject, number: failure.number, detail: nil)
        }
        return hasChanged
    }
}

/// `NFNLGRP_NFTABLES`
private let nftablesGroup: UInt32 = 7
/// `RTNLGRP_LINK` (routes vanish without a word when loopback goes down), `IPV4_ROUTE`, `IPV4_RULE`, `IPV6_ROUTE`,
/// `IPV6_RULE`
private let routingGroups: [UInt32] = [1, 7, 8, 11, 19]
