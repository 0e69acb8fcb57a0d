import Documents

/// `v1` Namespace: its labels say whether its pods are enrolled, its annotations how traffic is distributed.
public struct NamespaceManifest: Hashable, Sendable {
    public var meta: ObjectMeta

    public init(meta: ObjectMeta) { self.meta = meta }

    init(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("spec", "status")
        self.init(meta: meta)
        // The commonest mix-up among Istio's users: in an ambient mesh this label does nothing.
        if meta.labels["istio-injection"] == "enabled", meta.labels["istio.io/dataplane-mode"] == nil {
            top.cursor.warn(
                "istio-injection=enabled asks for sidecars, which do not exist here; istio.io/dataplane-mode=ambient enrols the namespace"
            )
        }
    }
}

/// `v1` Node: its labels give the locality of its pods.
public struct NodeManifest: Hashable, Sendable {
    public var meta: ObjectMeta

    public init(meta: ObjectMeta) { self.meta = meta }

    init(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("spec", "status")
        self.init(meta: meta)
    }
}

/// `v1` ServiceAccount. Only its being there matters.
public struct ServiceAccountManifest: Hashable, Sendable {
    public var meta: ObjectMeta

    init(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("secrets", "imagePullSecrets", "automountServiceAccountToken")
        self.meta = meta
    }
}

/// `v1` Secret.
public struct SecretManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    /// `kubernetes.io/tls`, for example.
    public var type: String
    public var data: [String: [UInt8]]

    init(_ top: Fields, _ meta: ObjectMeta) {
        self.meta = meta
        type = top["type"]?.string() ?? "Opaque"
        data = [:]
        for (key, _, value) in top["data"]?.entries() ?? [] {
            guard let text = value.string() else { continue }
            if let bytes = bytes(ofBase64: text) {
                data[key] = bytes
            } else {
                // The value is a secret: it is not repeated.
                value.error("this is not Base64; plain text belongs in stringData")
            }
        }
        for (key, text) in top["stringData"]?.stringMap() ?? [:] { data[key] = Array(text.utf8) }
        top.ignore("immutable")
    }
}

/// `v1` ConfigMap.
public struct ConfigMapManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var data: [String: String]

    init(_ top: Fields, _ meta: ObjectMeta) {
        self.meta = meta
        data = top["data"]?.stringMap() ?? [:]
        top.ignore("binaryData", "immutable")
    }
}

/// `apps/v1` Deployment: which pods belong to it, and the labels they get. Warren starts no pods.
public struct DeploymentManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var selector: LabelSelector
    public var templateLabels: [String: String]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields(),
            let selector = spec.required("selector").flatMap(LabelSelector.init),
            let template = spec.required("template")?.fields()
        else { return nil }
        self.meta = meta
        self.selector = selector
        templateLabels = template["metadata"]?.fields()?["labels"].map(Labels.decode) ?? [:]
        guard selector.matches(templateLabels) else {
            spec["selector"]?.error("it does not select the pods of the Deployment's own template")
            return nil
        }
    }
}

/// The transport protocol of a port.
public enum TransportProtocol: String, CaseIterable, Sendable {
    case tcp = "TCP"
    case udp = "UDP"
    case sctp = "SCTP"
}
