import Address
import Daemon
import Discovery
import Linux
import Options
import Telemetry

extension NodeConfiguration {
    /// - Throws: everything that is wrong with values that only together make sense.
    public init(_ given: Invocation) throws(InvalidOptions) {
        self.init(
            node: given[NodeOptions.node], control: given[NodeOptions.control].description,
            roots: TextSource(option: given[NodeOptions.roots], startsWith: "-----BEGIN"))
        var problems: [OptionProblem] = []
        if !isPlainFileName(node) || node.utf8.count > 64 {
            problems.append(
                OptionProblem(place: "--node", message: "a name of at most 64 bytes, without a slash"))
        }
        // A token starts like every JWT; anything else is a path.
        token = given[NodeOptions.token].map { TextSource(option: $0, startsWith: "eyJ") }
        controlServerName = given[NodeOptions.serverName]
        stateDirectory = given[NodeOptions.state]
        runDirectory = given[NodeOptions.runDirectory]
        network = given[NodeOptions.network] ?? ""
        clusterID = given[NodeOptions.cluster]
        clusterDomain = given[NodeOptions.clusterDomain]
        trustDomain = given[NodeOptions.trustDomain]
        usesNodeCertificate = !given[NodeOptions.noNodeCertificate]
        podName = given[NodeOptions.podName] ?? ""
        podNamespace = given[NodeOptions.podNamespace]
        instanceAddress = given[NodeOptions.instanceAddress] ?? ""
        userID = given[NodeOptions.userID]
        if userID == 0 {
            problems.append(
                OptionProblem(
                    place: "--uid", message: "not root: the capture rules trust whatever has this uid"))
        }
        let file = given[NodeOptions.accessLog]
        accessLog = file == "-" ? .standardOutput : .file(file)
        logFilter = given[NodeOptions.logLevel]
        logFormat = given[NodeOptions.logFormat]
        accessFormat = logFormat == .json ? .json : .text
        allowsChangesOverTCP = given[NodeOptions.adminChanges]
        drainDeadline = Self.drainDeadline(
            given[NodeOptions.drainTime], gracePeriod: given[NodeOptions.gracePeriod])
        certificateLifetime = given[NodeOptions.certificateLife]
        connectionsPerPod = max(1, given[NodeOptions.connectionLimit])
        sendsResponseBaggage = given[NodeOptions.responseBaggage]
        encryptsOnSameNode = given[NodeOptions.encryptSameNode]
        streamsPerTunnel = max(1, given[NodeOptions.streamsPerTunnel])
        tunnelIdle = given[NodeOptions.tunnelIdle]
        metricsIdle = given[NodeOptions.metricsIdle]
        aes = given[NodeOptions.aes]
        tlsRecords = given[NodeOptions.tlsRecords]
        tunnelCongestion = given[NodeOptions.tunnelCongestion]
        capture = given[NodeOptions.capture]
        endsWithParent = given[NodeOptions.endWithParent]
        readWorkers(given, &problems)
        adminAddresses = Self.addresses(given, NodeOptions.adminListen, &problems)
        metricsAddress = Self.addresses(given, NodeOptions.metricsListen, &problems).first
        readinessAddress = Self.addresses(given, NodeOptions.readinessListen, &problems).first
        if !problems.isEmpty { throw InvalidOptions(problems: problems) }
    }

    private mutating func readWorkers(_ given: Invocation, _ problems: inout [OptionProblem]) {
        func processors(_ option: Option<String?>) -> Int? {
            guard let text = given[option] else { return nil }
            guard let count = WorkerCount.processors(text) else {
                problems.append(
                    OptionProblem(
                        place: "--\(option.declaration.name)", message: "processors such as 2 or 500m"))
                return nil
            }
            return count
        }
        var count = WorkerCount(cores: processors(NodeOptions.cores) ?? availableProcessorCount())
        count.resourceLimit = processors(NodeOptions.resourceLimit)
        count.resourceRequest = processors(NodeOptions.resourceRequest)
        if let text = given[NodeOptions.workers] {
            if let wish = WorkerCount.Wish(text) {
                count.wish = wish
            } else {
                problems.append(
                    OptionProblem(
                        place: "--workers",
                        message: "\"\(text)\" is neither 0 to \(WorkerCount.limit) nor a share such as 25%"))
            }
        }
        workerCount = count.count
    }

    private static func addresses(
        _ given: Invocation, _ option: Option<String>, _ problems: inout [OptionProblem]
    ) -> [SocketAddress] {
        let text = given[option]
        guard text != "none" else { return [] }
        return text.split(separator: ",").compactMap { part in
            if let address = SocketAddress(String(part)) { return address }
            problems.append(
                OptionProblem(
                    place: "--\(option.declaration.name)",
                    message: "\"\(part)\" is not an address and port such as 127.0.0.1:15000 or [::]:15020"))
            return nil
        }
    }
}
