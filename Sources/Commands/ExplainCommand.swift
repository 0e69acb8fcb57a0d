import Address
import Documents

/// `warren explain`: what would become of a connection, and every reason for it. The node of the source pod answers, by the very
/// functions that decide about connections.
public struct ExplainCommand {
    let answer: JSONAnswer
    private let source: String
    private let destination: String

    init(answer: JSONAnswer, source: String, destination: String) {
        self.answer = answer
        self.source = source
        self.destination = destination
    }

    /// Asks the node of the pod.
    ///
    /// - Parameters:
    ///   - source: `namespace/pod`, or the pod's name alone where only one pod has it.
    ///   - destination: `address:port`, an IPv6 address in brackets.
    public init(runDirectory: String, source: String, destination: String) throws(CommandError) {
        guard SocketAddress(destination) != nil else {
            throw .usage(
                "the destination is an address with its port, such as 10.0.0.7:80 or [fd00::7]:80, not \(quoted(destination))"
            )
        }
        let status = try MeshStatus(runDirectory: runDirectory)
        let (pod, node) = try Self.find(source, in: status)
        let client = AdminClient(socketPath: "\(runDirectory)/\(node).sock")
        let target = "/explain?source=\(percentEncoded(pod))&destination=\(percentEncoded(destination))"
        self.init(
            answer: try JSONAnswer(try client.page(target), from: client.socketPath), source: pod,
            destination: destination)
    }

    /// The pod's full name and the node it is on.
    static func find(_ source: String, in status: MeshStatus) throws(CommandError) -> (
        pod: String, node: String
    ) {
        var found: [(pod: String, node: String)] = []
        var all: [String] = []
        for local in status.nodes {
            for workload in local.list("workloads") {
                guard let name = workload.text("name"), let node = local.text("node") else { continue }
                all.append(workload.podName)
                if source == workload.podName || source == name { found.append((workload.podName, node)) }
            }
        }
        if let only = found.first, found.count == 1 { return only }
        guard found.isEmpty else {
            throw .usage(
                "\(quoted(source)) may be \(found.map(\.pod).joined(separator: " or ")): give its namespace too"
            )
        }
        let elsewhere = status.control?.list("workloads").first {
            source == $0.podName || source == $0.text("name")
        }
        if let elsewhere {
            guard elsewhere.flag("enrolled") == true else {
                throw .refused("\(source) is not in the mesh: its connections are its own affair")
            }
            throw .refused(
                "\(source) is on node \(elsewhere.text("node") ?? "?"), whose daemon is not on this machine: ask there"
            )
        }
        throw .usage(
            "no pod \(quoted(source)) is in the mesh on this machine; there are \(all.sorted().joined(separator: ", "))"
        )
    }

    public func text(_ form: OutputForm) -> String { form.write(answer.value, table: report) }

    private var report: String {
        let from = answer["source"]
        var lines = ["\(source) → \(destination): \(answer.text("verdict") ?? "undecided")", ""]
        lines.append(
            "from   \(source)" + note(from?.text("node").map { "on \($0)" }, from?.text("identity")))
        if let target = answer["target"] {
            let name = target.text("workload").map(Self.shortened) ?? "a workload"
            let service = target.text("service").map { "through service \($0)" }
            lines.append(
                "to     \(name)"
                    + note(service, target.text("node").map { "on \($0)" }, target.text("identity")))
        } else {
            lines.append("to     \(destination), which is nothing that the mesh knows")
        }
        for (name, label) in [("outbound", "plan"), ("waypoint", "plan"), ("inbound", "verdict")] {
            guard let part = answer[name] else { continue }
            let outcome = part.text(label) ?? ""
            let policy = part.text("policy").map { " by \($0)" } ?? ""
            lines += ["", "\(name): \(outcome)\(policy)" + (part.text("summary").map { " – \($0)" } ?? "")]
            lines += part.texts("steps").map { "    \($0)" }
        }
        return lines.map(Table.printable).joined(separator: "\n") + "\n"
    }

    /// `cluster//Pod/namespace/name`, the uid of a pod on the wire, as people call it.
    private static func shortened(_ uid: String) -> String {
        uid.firstRange(of: "//Pod/").map { String(uid[$0.upperBound...]) } ?? uid
    }

    private func note(_ parts: String?...) -> String {
        let said = parts.compactMap { $0 }.filter { !$0.isEmpty }
        return said.isEmpty ? "" : " (\(said.joined(separator: ", ")))"
    }
}
