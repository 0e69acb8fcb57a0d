import Address
import EventLoop
import Linux
import Mesh
import Transport

extension SocketAddress {
    /// Starts a connection in the namespace that the thread is in, as every socket of ours in a pod is made: marked, and
    /// kept alive as ztunnel does.
    ///
    /// - Parameters:
    ///   - source: an address to come from that need not be ours.
    ///   - isLocal: the other end is in the same namespace. The kernel then tells at once when it is gone, so that it
    ///     need not be asked.
    func dial(spoofing source: IPAddress? = nil, isLocal: Bool = false) throws(SystemCallError) -> Dialled {
        try Socket.dial(
            self, from: source.map { SocketAddress($0, 0) },
            ConnectOptions(
                mark: PodListeners.mark, transparent: source != nil, keepAlive: isLocal ? nil : .ztunnel,
                isLocal: isLocal))
    }

    /// The same, for a tunnel to a peer.
    func dialTunnel(_ congestionControls: [String]) throws(SystemCallError) -> Dialled {
        try Socket.dial(
            self,
            ConnectOptions(
                mark: PodListeners.mark, keepAlive: .ztunnel, congestionControls: congestionControls))
    }
}

/// How a connection that a pod needs came about.
enum DialOutcome: ~Copyable {
    case connected(Socket)
    case failed(CloseReason)
}

extension Worker {
    /// Connects from within a pod's namespace, within ztunnel's 10 s.
    ///
    /// - Parameters:
    ///   - source: an address to come from that need not be ours; nil for the pod's own.
    ///   - isLocal: the address is the pod's own.
    ///   - completion: called once, within this call where the connection is made at once; not at all when this throws.
    /// - Returns: nil when the connection was made at once.
    func dial(
        _ address: SocketAddress, spoofing source: IPAddress? = nil, isLocal: Bool = false,
        in namespace: PodNamespace,
        _ completion: @escaping (consuming DialOutcome) -> Void
    ) throws(SystemCallError) -> Connector? {
        let dialled = try connect(to: address, spoofing: source, isLocal: isLocal, in: namespace)
        if dialled.isConnected {
            completion(.connected(dialled.socket))
            return nil
        }
        return try Connector(on: loop, dialled.socket, within: .seconds(10)) { result in
            switch consume result {
            case .connected(let socket): completion(.connected(socket))
            case .failed(let number):
                completion(.failed(.connectFailed("\(address): \(errorText(number))")))
            case .timedOut: completion(.failed(.connectTimedOut))
            case .cancelled: break
            }
        }
    }
}
