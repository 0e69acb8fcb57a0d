import Compiler
import Documents
import Manifests
import Mesh
import Testing

/// Compiles manifests; errors in them fail the test.
func compileYAML(_ text: String, _ environment: Environment = Environment()) -> MeshResources {
    let file = ManifestFile(bytes: Array(text.utf8), file: "m.yaml")
    #expect(!file.hasErrors, "\(file.problems)")
    var store = ObjectStore()
    #expect(store.merge([file]) == [])
    return compile(store, in: environment)
}

func documents(_ texts: String...) -> String { texts.joined(separator: "\n---\n") }

func namespace(_ name: String, _ labels: String = "istio.io/dataplane-mode: ambient") -> String {
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: \(name), labels: {\(labels)}}"
}

func pod(
    _ name: String, in namespace: String = "shop", _ address: String = "10.0.0.1",
    labels: String = "app: web",
    metadata: String = "annotations: {warren.dev/netns: web-ns}", spec: String = "nodeName: n1",
    status: String = ""
) -> String {
    """
    apiVersion: v1
    kind: Pod
    metadata: {name: \(name), namespace: \(namespace), labels: {\(labels)}, \(metadata)}
    spec: {\(spec)}
    status: {podIP: "\(address)"\(status.isEmpty ? "" : ", ")\(status)}
    """
}

func policy(_ spec: String, name: String = "p", in namespace: String = "shop") -> String {
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: \(name), namespace: \(namespace)}\nspec: {\(spec)}"
}

func peerAuthentication(
    _ spec: String, name: String = "pa", in namespace: String = "shop", created: String = ""
) -> String {
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: \(name), namespace: \(namespace)\(created.isEmpty ? "" : ", creationTimestamp: \"\(created)\"")}\nspec: {\(spec)}"
}

func name(_ text: String) -> NamespacedName {
    NamespacedName(text) ?? NamespacedName(namespace: "?", name: text)
}

extension Policy.Match {
    /// A match with some attributes set, for the expectations of a table.
    static func with(_ change: (inout Policy.Match) -> Void) -> Policy.Match {
        var match = Policy.Match()
        change(&match)
        return match
    }
}

/// Rules as nested lists: rules of clauses of matches.
func rules(_ rules: [[Policy.Match]]...) -> [Policy.Rule] {
    rules.map { Policy.Rule(clauses: $0.map(Policy.Clause.init)) }
}
