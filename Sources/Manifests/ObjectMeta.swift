import Documents

/// What an object is and how it is called: unique in a store.
public struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let kind: Kind
    /// Empty for kinds of the whole cluster.
    public let namespace: String
    public let name: String

    public init(kind: Kind, namespace: String, name: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
    }

    public var description: String {
        namespace.isEmpty ? "\(kind.rawValue) \(name)" : "\(kind.rawValue) \(namespace)/\(name)"
    }

    public static func < (a: ObjectKey, b: ObjectKey) -> Bool {
        (a.kind.rawValue, a.namespace, a.name) < (b.kind.rawValue, b.namespace, b.name)
    }
}

/// `metadata` of any object (Kubernetes ObjectMeta), as far as the mesh looks at it.
public struct ObjectMeta: Hashable, Sendable {
    public var name: String
    /// `default` where a namespaced object names none; empty for kinds of the whole cluster.
    public var namespace: String
    public var labels: [String: String]
    public var annotations: [String: String]
    /// Nil where the object was not made by an API server.
    public var uid: String?
    /// RFC 3339 in UTC, which sorts by itself; empty where the object was not made by an API server.
    public var creationTimestamp: String
    public var isBeingDeleted: Bool
    public var owners: [Owner]
    /// Where the object begins.
    public var position: Position

    public struct Owner: Hashable, Sendable {
        public var kind: String
        public var name: String
        public var isController: Bool

        public init(kind: String, name: String, isController: Bool) {
            self.kind = kind
            self.name = name
            self.isController = isController
        }
    }

    public init(
        name: String, namespace: String = "", labels: [String: String] = [:],
        annotations: [String: String] = [:],
        uid: String? = nil, creationTimestamp: String = "", isBeingDeleted: Bool = false,
        owners: [Owner] = [],
        position: Position = Position(file: "")
    ) {
        self.name = name
        self.namespace = namespace
        self.labels = labels
        self.annotations = annotations
        self.uid = uid
        self.creationTimestamp = creationTimestamp
        self.isBeingDeleted = isBeingDeleted
        self.owners = owners
        self.position = position
    }

    /// Istio's order among policies that compete: the oldest first, then by name.
    public func isOlder(than other: ObjectMeta) -> Bool {
        (creationTimestamp, name, namespace) < (other.creationTimestamp, other.name, other.namespace)
    }
}

extension ObjectMeta {
    /// Decodes `metadata` of an object of `kind`; nil when it has no usable name.
    init?(_ cursor: Cursor, kind: Kind, position: Position) {
        guard let fields = cursor.fields() else { return nil }
        defer {
            fields.ignore(
                "generateName", "generation", "resourceVersion", "selfLink", "finalizers", "managedFields",
                "deletionGracePeriodSeconds")
            fields.close(as: .warning)
        }
        var namespace = ""
        if let cursor = fields["namespace"], let text = cursor.string() {
            if !kind.isNamespaced {
                cursor.warn("a \(kind.rawValue) is in no namespace; this one is ignored")
            } else if let problem = Names.problem(label: text) {
                cursor.error(problem)
            } else {
                namespace = text
            }
        }
        if kind.isNamespaced, namespace.isEmpty { namespace = "default" }
        labels = fields["labels"].map(Labels.decode) ?? [:]
        annotations = fields["annotations"]?.stringMap() ?? [:]
        uid = fields["uid"]?.nonEmptyString()
        creationTimestamp = fields["creationTimestamp"]?.string() ?? ""
        isBeingDeleted = fields["deletionTimestamp"] != nil
        owners = fields["ownerReferences"]?.list(Owner.init) ?? []
        self.position = position
        self.namespace = namespace

        guard let cursor = fields.required("name"), let name = cursor.string() else { return nil }
        self.name = name
        if let problem = kind.nameRule(name) {
            cursor.error(problem)
            return nil
        }
    }
}

extension ObjectMeta.Owner {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields(), let kind = fields.required("kind")?.string(),
            let name = fields.required("name")?.string()
        else { return nil }
        self.init(kind: kind, name: name, isController: fields["controller"]?.boolean() ?? false)
    }
}
