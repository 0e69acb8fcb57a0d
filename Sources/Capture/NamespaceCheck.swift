import Address
import Linux

/// Why a network namespace is not accepted for a workload. The text is for the person who named it.
public enum NamespaceRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// It cannot be opened, or is no network namespace.
    case unusable(name: String, reason: String)
    case daemonsOwn(name: String)
    case hosts(name: String)
    /// Its uids are not the daemon's: the rule that lets the daemon's own connections out would not know them.
    case foreignUsers(name: String)
    /// Two workloads cannot share one set of rules.
    case held(name: String, by: String)
    case lacksAddress(name: String, missing: [IPAddress], present: [IPAddress])
    /// The workload has no address to check the namespace by.
    case noAddress(name: String)

    public var description: String {
        switch self {
        case .unusable(let name, let reason):
            return "\(name) cannot be used as a network namespace: \(reason); "
                + "name one of `ip netns list`, or an absolute path to one"
        case .daemonsOwn(let name):
            return "\(name) is the network namespace that the node daemon itself runs in; "
                + "give the workload one of its own (ip netns add)"
        case .hosts(let name):
            return "\(name) is the host's network namespace; capturing it would capture every process of the "
                + "machine. Workloads on the host network cannot be enrolled"
        case .foreignUsers(let name):
            return
                "\(name) belongs to another user namespace (a rootless container, or hostUsers: false), where the "
                + "daemon's own connections could not be told from the workload's; run the workload without one"
        case .held(let name, let holder):
            return "\(name) is already the namespace of workload \(holder); give each workload one of its own"
        case .lacksAddress(let name, let missing, let present):
            let list = { (addresses: [IPAddress]) in
                addresses.isEmpty ? "none" : addresses.map(\.description).joined(separator: ", ")
            }
            return "\(name) does not hold \(list(missing)) (it holds \(list(present))); "
                + "correct the workload's status.podIPs or its namespace"
        case .noAddress(let name):
            return "the workload in \(name) has no address; set its status.podIP"
        }
    }
}

/// Decides whether a network namespace may be captured for a workload (design: Capture).
public struct NamespaceCheck: Sendable {
    /// The namespace of the daemon.
    public let own: NetworkNamespace.Identity
    /// The namespace of the host: that of process 1. Nil when it is out of sight.
    public let host: NetworkNamespace.Identity?

    public init(own: NetworkNamespace.Identity, host: NetworkNamespace.Identity?) {
        self.own = own
        self.host = host
    }

    /// Takes the calling thread's namespace for the daemon's, and that of process 1 for the host's.
    ///
    /// To be called before privileges are dropped: looking at another user's process takes CAP_SYS_PTRACE. Where process
    /// 1 cannot be looked at all the same (a sandbox around the daemon), the host is known by the kernel's fixed number
    /// alone, and `host` is nil: worth a warning.
    public static func forThisProcess() throws(SystemCallError) -> NamespaceCheck {
        let own = try NetworkNamespace.current()
        do {
            return NamespaceCheck(own: own.identity, host: try NetworkNamespace.ofProcess(1).identity)
        } catch {
            return NamespaceCheck(own: own.identity, host: nil)
        }
    }

    /// The inode number of the first network namespace (`NET_NS_INIT_INO`), fixed since Linux 6.18. Older kernels give
    /// the number to nothing.
    private static let initialNamespace: UInt64 = 0xeffffff9

    /// Opens the namespace and checks it.
    ///
    /// - Parameters:
    ///   - addresses: all of the workload's; each must be there.
    ///   - holder: the workload that holds a namespace already, if that is another one.
    public func open(
        _ nameOrPath: String, addresses: [IPAddress],
        holder: (NetworkNamespace.Identity) -> String?
    ) throws(NamespaceRefusal) -> NetworkNamespace {
        let namespace = try Self.named(nameOrPath)
        let (present, isOurs) = try Self.facts(of: namespace, nameOrPath)
        let refusal = refusal(
            nameOrPath, namespace.identity, addresses: addresses, present: present,
            holder: holder(namespace.identity))
        if let refusal { throw refusal }
        guard isOurs else { throw .foreignUsers(name: nameOrPath) }
        return namespace
    }

    private static func named(_ name: String) throws(NamespaceRefusal) -> NetworkNamespace {
        do {
            return try NetworkNamespace(name)
        } catch {
            throw .unusable(name: name, reason: error.description)
        }
    }

    private static func facts(
        of namespace: borrowing NetworkNamespace, _ name: String
    ) throws(NamespaceRefusal) -> (addresses: [IPAddress], isOurs: Bool) {
        do {
            let addresses = try namespace.perform { () throws(SystemCallError) in
                try Interfaces.addresses().map(\.address)
            }
            return (addresses, try namespace.belongsToOurUsers())
        } catch {
            throw .unusable(name: name, reason: error.description)
        }
    }

    /// The decision alone, without a system call; nil for a namespace that may be captured.
    public func refusal(
        _ name: String, _ identity: NetworkNamespace.Identity, addresses: [IPAddress], present: [IPAddress],
        holder: String?
    ) -> NamespaceRefusal? {
        // The host's first: a daemon on the host network is in both, and "the host's" says more.
        let isInitial = identity.inode == Self.initialNamespace && identity.device == own.device
        if identity == host || isInitial { return .hosts(name: name) }
        if identity == own { return .daemonsOwn(name: name) }
        if let holder { return .held(name: name, by: holder) }
        if addresses.isEmpty { return .noAddress(name: name) }
        // Loopback addresses are in every namespace and prove nothing.
        let proving = Set(present.map(\.canonical).filter { !$0.isLoopback })
        let missing = addresses.map(\.canonical).filter { !proving.contains($0) }
        return missing.isEmpty
            ? nil : .lacksAddress(name: name, missing: missing, present: proving.sorted())
    }
}
