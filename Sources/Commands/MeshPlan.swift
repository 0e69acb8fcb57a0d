import Compiler
import ControlPlane
import Documents
import Manifests

/// What `warren up` starts for a configuration directory.
struct MeshPlan: Equatable {
    struct Node: Equatable {
        let name: String
        /// A name in the system's netns folder or an absolute path; nil for the namespace that `warren up` runs in.
        let networkNamespace: String?
    }

    /// A waypoint's pod, which runs one replica of it.
    struct Waypoint: Equatable {
        let namespace: String
        /// Of the Gateway.
        let name: String
        let pod: String
        let networkNamespace: String

        /// What its admin socket is called. No node's name has an underscore.
        var instance: String { "\(namespace)_\(pod)" }
    }

    /// By name.
    let nodes: [Node]
    /// By namespace and pod. Those of these nodes whose pods say where their namespace is.
    let waypoints: [Waypoint]
    /// The namespaces of these nodes' pods: what must be free of capture rules in the end.
    let podNamespaces: [String]

    static let annotation = "warren.dev/netns"

    /// Reads a directory.
    ///
    /// - Parameter only: the nodes to run; all when empty.
    /// - Throws: `.configuration` with all problems when a file has an error, `.usage` for a node that is not in it.
    static func read(_ path: String, only: [String]) throws(CommandError) -> (MeshPlan, warnings: [Problem]) {
        var directory = ConfigurationDirectory(path)
        _ = directory.refresh()
        let configuration = directory.configuration()
        guard configuration.errors.isEmpty else { throw .configuration(configuration.errors) }
        return (try MeshPlan(configuration.store, only: only, directory: path), configuration.warnings)
    }

    init(_ store: ObjectStore, only: [String], directory: String) throws(CommandError) {
        var nodes: [Node] = []
        var podNamespaces: [String: Set<String>] = [:]
        for manifest in store.objects.values {
            let namespace = manifest.meta.annotations[Self.annotation].flatMap { $0.isEmpty ? nil : $0 }
            switch manifest {
            case .node(let node): nodes.append(Node(name: node.meta.name, networkNamespace: namespace))
            case .pod(let pod):
                if let namespace { podNamespaces[pod.nodeName, default: []].insert(namespace) }
            default: break
            }
        }
        nodes.sort { $0.name < $1.name }
        guard !nodes.isEmpty else {
            throw .usage(
                """
                \(directory) holds no Node, so there is nothing to start. A Node may be as short as
                    {apiVersion: v1, kind: Node, metadata: {name: here}}
                with annotation \(Self.annotation) when its daemon belongs into a network namespace of its own
                """)
        }
        for name in only where !nodes.contains(where: { $0.name == name }) {
            let known = nodes.map(\.name).joined(separator: ", ")
            throw .usage("no Node \(quoted(name)) in \(directory); there are \(known)")
        }
        self.nodes = only.isEmpty ? nodes : nodes.filter { only.contains($0.name) }
        let running = Set(self.nodes.map(\.name))
        waypoints = compile(store).waypoints.flatMap { name, declaration in
            declaration.replicas.compactMap { replica in
                // A pod that is bound to no node runs with all of them.
                guard running.contains(replica.node) || (replica.node.isEmpty && only.isEmpty),
                    let namespace = replica.networkNamespace
                else { return nil }
                return Waypoint(
                    namespace: name.namespace, name: name.name, pod: replica.name,
                    networkNamespace: namespace)
            }
        }.sorted { ($0.namespace, $0.pod) < ($1.namespace, $1.pod) }
        self.podNamespaces = self.nodes.flatMap { podNamespaces[$0.name] ?? [] }.sorted()
    }
}
