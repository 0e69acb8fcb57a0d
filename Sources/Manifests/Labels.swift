import Documents

enum Labels {
    /// A mapping of labels whose keys and values Kubernetes would take.
    static func decode(_ cursor: Cursor) -> [String: String] {
        var result: [String: String] = [:]
        for (key, keyPosition, value) in cursor.entries("a mapping of strings") {
            if let problem = Names.problem(labelKey: key) {
                cursor.problems.report(
                    Problem(at: keyPosition, path: cursor.path, "\(quoted(key)): \(problem)"))
                continue
            }
            guard value.node.content != .null else {
                result[key] = ""
                continue
            }
            guard let text = value.string() else { continue }
            if let problem = Names.problem(labelValue: text) {
                value.error(problem)
            } else {
                result[key] = text
            }
        }
        return result
    }
}

/// Which pods of a namespace an Istio policy is for (`istio.type.v1beta1.WorkloadSelector`): all of its labels have to
/// be there. No labels select every pod.
public struct WorkloadSelector: Hashable, Sendable {
    public var matchLabels: [String: String]

    public init(matchLabels: [String: String]) {
        self.matchLabels = matchLabels
    }

    public func matches(_ labels: [String: String]) -> Bool {
        matchLabels.allSatisfy { labels[$0.key] == $0.value }
    }

    init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        let labels = fields["matchLabels"]
        fields.close()
        if let labels, case .mapping = labels.node.content {
            for (key, position, value) in labels.entries("a mapping of strings") {
                if key.contains("*") {
                    labels.problems.report(Problem(at: position, path: labels.path, "a key has no wildcards"))
                }
                if case .string(let text) = value.node.content, text.contains("*") {
                    value.error("a label is compared as it is; wildcards are not possible")
                }
            }
        }
        self.init(matchLabels: labels.map(Labels.decode) ?? [:])
    }
}

/// Kubernetes' richer selector (`metav1.LabelSelector`), of Deployments.
public struct LabelSelector: Hashable, Sendable {
    public enum Operator: String, CaseIterable, Sendable {
        case isIn = "In"
        case isNotIn = "NotIn"
        case exists = "Exists"
        case doesNotExist = "DoesNotExist"
    }

    public struct Requirement: Hashable, Sendable {
        public var key: String
        public var comparison: Operator
        public var values: [String]
    }

    public var matchLabels: [String: String]
    public var requirements: [Requirement]

    /// Without any condition it selects nothing here, for a Deployment may not select everything.
    public func matches(_ labels: [String: String]) -> Bool {
        guard !matchLabels.isEmpty || !requirements.isEmpty else { return false }
        return matchLabels.allSatisfy { labels[$0.key] == $0.value }
            && requirements.allSatisfy { requirement in
                let value = labels[requirement.key]
                return switch requirement.comparison {
                case .isIn: value.map(requirement.values.contains) ?? false
                case .isNotIn: !(value.map(requirement.values.contains) ?? false)
                case .exists: value != nil
                case .doesNotExist: value == nil
                }
            }
    }

    init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        matchLabels = fields["matchLabels"].map(Labels.decode) ?? [:]
        requirements =
            fields["matchExpressions"]?.list { cursor in
                guard let fields = cursor.fields(), let key = fields.required("key")?.string(),
                    let comparison = fields.required("operator")?.choice(of: Operator.self)
                else { return nil }
                return Requirement(
                    key: key, comparison: comparison, values: fields["values"]?.strings() ?? [])
            } ?? []
        fields.close(as: .warning)
    }
}
