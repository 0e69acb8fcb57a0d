import Address
import Glibc
import Linux
import Transport

/// The three listeners of one worker in one pod's namespace (ztunnel.md §0, "Ports").
struct PodListeners: ~Copyable, Sendable {
    /// Where the pod's own connections are captured.
    let outbound: Socket
    /// Where plaintext connections to the pod are captured.
    let plaintext: Socket
    /// Where tunnels arrive.
    let tunnels: Socket
    /// By which congestion control tunnels send, those that the pod opens too.
    let congestion: CongestionPlan

    static let outboundPort: UInt16 = 15_001
    static let plaintextPort: UInt16 = 15_006
    static let tunnelPort: UInt16 = 15_008
    /// `SO_MARK` of every socket that the daemon makes in a pod.
    static let mark: UInt32 = 1_337

    /// One set for each worker, all on the same ports: the kernel spreads connections over them.
    static func open(
        in namespace: PodNamespace, count: Int, _ congestion: CongestionChoice
    ) throws(SystemCallError) -> [Parcel<PodListeners>] {
        try namespace.handle.perform { () throws(SystemCallError) in
            var sets: [Parcel<PodListeners>] = []
            for _ in 0..<count {
                let tunnels = try listen(tunnelPort, accepted: .tunnels)
                let plan = CongestionPlan(congestion, system: tunnels.congestionControl)
                if !plan.beginning.isEmpty { tunnels.setCongestionControl(firstOf: plan.beginning) }
                sets.append(
                    Parcel(
                        PodListeners(
                            outbound: try listen(outboundPort, accepted: .ownApplications),
                            plaintext: try listen(plaintextPort, accepted: .applications),
                            tunnels: tunnels, congestion: plan)))
            }
            return sets
        }
    }

    /// Own applications connect over loopback.
    private enum Kind { case ownApplications, applications, tunnels }

    private static func listen(
        _ port: UInt16, accepted kind: Kind
    ) throws(SystemCallError) -> Socket {
        // Captured connections keep the address that they are for, unless they are redirected.
        let socket = try listen(port, transparent: kind != .tunnels)
        // Inherited by what is accepted, and so set once in place of five system calls a connection. Tunnels are kept
        // alive by their own PINGs (ztunnel.md §1.2).
        socket.setNoDelay()
        if kind != .tunnels { socket.setKeepAlive(.ztunnel) }
        if kind == .ownApplications { socket.setUnpaced() }
        return socket
    }

    private static func listen(_ port: UInt16, transparent: Bool) throws(SystemCallError) -> Socket {
        let options = ListenOptions(reusePort: true, transparent: transparent, mark: mark)
        do {
            return try Socket.listen(on: SocketAddress(.anyIPv6, port), options)
        } catch  where error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL {
            // A namespace without IPv6. The rules cover IPv6 all the same, so nothing leaves there in the clear.
            return try Socket.listen(on: SocketAddress(.anyIPv4, port), options)
        }
    }
}
