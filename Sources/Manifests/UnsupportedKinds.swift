/// What becomes of an object that Warren does not act on: said to its author instead of being passed over.
enum UnsupportedKinds {
    static func consequence(group: String, kind: String) -> String {
        if let text = consequences["\(group)/\(kind)"] { return text }
        switch group {
        case "networking.istio.io", "gateway.networking.k8s.io":
            return "traffic is carried as if it did not exist"
        case "security.istio.io": return "nothing of it is enforced"
        case "telemetry.istio.io": return "telemetry stays as it is"
        case "extensions.istio.io": return "no extension is loaded"
        default: return "it has no effect on the mesh"
        }
    }

    private static let consequences: [String: String] = [
        "security.istio.io/RequestAuthentication":
            "no token is validated: requests with and without tokens pass alike",
        "networking.istio.io/Gateway": "no ingress is configured by it",
        "networking.istio.io/WorkloadGroup": "no workload is made of it",
        "networking.istio.io/Sidecar":
            "it limits sidecars, of which an ambient mesh has none; egress is not restricted by it",
        "networking.istio.io/EnvoyFilter": "there is no Envoy that it could patch",
        "networking.istio.io/ProxyConfig": "there is no sidecar that it could configure",
        "extensions.istio.io/WasmPlugin": "no WebAssembly is run: what it should check is not checked",
        "linkerd.io/ServiceProfile":
            "it belongs to another mesh: its routes, retries and timeouts are not applied",
        "split.smi-spec.io/TrafficSplit": "it belongs to another mesh: traffic is not split by it",
        "consul.hashicorp.com/ServiceDefaults": "it belongs to another mesh and is not applied",
        "consul.hashicorp.com/ServiceSplitter": "it belongs to another mesh: traffic is not split by it",
        "consul.hashicorp.com/ServiceResolver": "it belongs to another mesh: its subsets are not applied",
        "networking.k8s.io/NetworkPolicy":
            "it is the CNI's; the mesh does not enforce it, and joins members of one node past it",
    ]
}
