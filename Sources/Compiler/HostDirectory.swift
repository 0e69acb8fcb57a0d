import Manifests
import Mesh

/// The services by host name, as routes look for them.
struct HostDirectory {
    private var byHost: [String: [Service]] = [:]
    private let clusterDomain: String

    init(_ services: some Sequence<Service>, clusterDomain: String) {
        self.clusterDomain = clusterDomain
        for service in services { byHost[service.hostname, default: []].append(service) }
        for host in byHost.keys { byHost[host]?.sort { $0.namespace < $1.namespace } }
    }

    /// The full name of what an object of `namespace` calls `host`: names without a dot are short ones of services there.
    func fullName(_ host: String, in namespace: String) -> String {
        host.contains(".") || host.contains("*") ? host : "\(host).\(namespace).svc.\(clusterDomain)"
    }

    /// The service that `host` means to somebody in `namespace`: its own, or else the one that counts for the mesh.
    func service(_ host: String, seenFrom namespace: String) -> Service? {
        let found = byHost[host] ?? []
        return found.first { $0.namespace == namespace } ?? found.first(where: \.isCanonical) ?? found.first
    }

    /// Every service that a full name or a wildcard is about.
    func services(matching host: String) -> [Service] {
        guard host.hasPrefix("*") else { return byHost[host] ?? [] }
        return byHost.filter { HostPattern(host).matches($0.key) }.sorted { $0.key < $1.key }.flatMap(\.value)
    }

    /// How people find the object behind a service.
    func description(of service: Service) -> String {
        let isService =
            service.hostname == "\(service.name).\(service.namespace).svc.\(clusterDomain)"
        return "\(isService ? "Service" : "ServiceEntry") \(service.namespace)/\(service.name)"
    }
}

/// A host of a VirtualService or DestinationRule: exact, or a wildcard `*.example`.
struct HostPattern: Hashable {
    let text: String

    init(_ text: String) { self.text = text }

    func matches(_ host: String) -> Bool {
        guard text.hasPrefix("*") else { return text == host }
        let suffix = text.dropFirst()
        // Of another wildcard, everything that it covers.
        return host.hasSuffix(suffix) && host.utf8.count > suffix.utf8.count || host == text
    }

    /// Exact names come before wildcards, and long wildcards before short ones.
    var rank: Int { text.hasPrefix("*") ? Int.max - text.utf8.count : 0 }
}

/// `exportTo`: who may see an object. Nothing there means everybody.
func isExported(_ exportTo: [String], of namespace: String, to other: String) -> Bool {
    exportTo.isEmpty
        || exportTo.contains { $0 == "*" || $0 == other || $0 == "." && namespace == other }
}
