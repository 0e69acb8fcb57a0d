import Mesh
import Telemetry

extension JSONWriter {
    package mutating func policy(_ policy: Policy) {
        object { json in
            json.member("name", policy.name.name)
            json.member("namespace", policy.name.namespace)
            json.member("scope", policy.scope.dumpName)
            json.member("action", policy.action == .allow ? "Allow" : "Deny")
            json.arrayMember("rules", of: policy.rules) { json, rule in
                json.array(of: rule.clauses) { json, clause in
                    json.array(of: clause.matches) { json, match in json.match(match) }
                }
            }
            json.member("dryRun", policy.isDryRun)
        }
    }

    private mutating func match(_ match: Policy.Match) {
        object { json in
            json.texts("namespaces", match.namespaces)
            json.texts("notNamespaces", match.notNamespaces)
            json.texts("principals", match.principals)
            json.texts("notPrincipals", match.notPrincipals)
            json.accounts("serviceAccounts", match.serviceAccounts)
            json.accounts("notServiceAccounts", match.notServiceAccounts)
            json.descriptions("sourceIps", match.sourceIPs)
            json.descriptions("notSourceIps", match.notSourceIPs)
            json.descriptions("destinationIps", match.destinationIPs)
            json.descriptions("notDestinationIps", match.notDestinationIPs)
            json.numbers("destinationPorts", match.destinationPorts)
            json.numbers("notDestinationPorts", match.notDestinationPorts)
        }
    }

    private mutating func texts(_ name: String, _ matches: [Policy.StringMatch]) {
        guard !matches.isEmpty else { return }
        arrayMember(name, of: matches) { json, match in
            json.object { json in
                switch match {
                case .exact(let text): json.member("Exact", text)
                case .prefix(let text): json.member("Prefix", text)
                case .suffix(let text): json.member("Suffix", text)
                case .presence: json.arrayMember("Presence", of: [])
                }
            }
        }
    }

    private mutating func accounts(_ name: String, _ matches: [Policy.ServiceAccountMatch]) {
        guard !matches.isEmpty else { return }
        arrayMember(name, of: matches) { json, match in
            json.object { json in
                json.member("namespace", match.namespace)
                json.member("serviceAccount", match.serviceAccount)
            }
        }
    }

    private mutating func descriptions(_ name: String, _ values: [some CustomStringConvertible]) {
        if !values.isEmpty { arrayMember(name, of: values.map(\.description)) }
    }

    private mutating func numbers(_ name: String, _ values: [UInt16]) {
        if !values.isEmpty { arrayMember(name, of: values) { $0.number($1) } }
    }
}

extension Policy.Scope {
    fileprivate var dumpName: String {
        switch self {
        case .global: "Global"
        case .namespace: "Namespace"
        case .workloadSelector: "WorkloadSelector"
        }
    }
}
