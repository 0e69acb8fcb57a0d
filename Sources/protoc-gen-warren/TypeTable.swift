/// Every message and enum of a request by its full name, as references spell it: `.istio.workload.Workload`.
struct TypeTable {
    private(set) var swiftNames: [String: String] = [:]
    private(set) var messages: [String: DescriptorProto] = [:]

    init(_ files: [FileDescriptorProto]) {
        for file in files {
            let scope = file.package.isEmpty ? "" : "." + file.package
            let prefix = Names.prefix(package: file.package)
            for message in file.messageType {
                add(message, scope: scope, swiftName: Names.type(prefix + message.name, suffix: "Message"))
            }
            for declaration in file.enumType {
                swiftNames[scope + "." + declaration.name] =
                    Names.type(prefix + declaration.name, suffix: "Enum")
            }
        }
    }

    private mutating func add(_ message: DescriptorProto, scope: String, swiftName: String) {
        let name = scope + "." + message.name
        swiftNames[name] = swiftName
        messages[name] = message
        for nested in message.nestedType {
            add(
                nested, scope: name,
                swiftName: swiftName + "." + Names.type(nested.name, suffix: "Message"))
        }
        for nested in message.enumType {
            swiftNames[name + "." + nested.name] = swiftName + "." + Names.type(nested.name, suffix: "Enum")
        }
    }

    /// Whether a value of `type` holds, without a list or a map between, a value of `container`.
    func holds(_ type: String, _ container: String) -> Bool {
        var seen: Set<String> = []
        var queue = [type]
        while let next = queue.popLast() {
            if next == container { return true }
            guard seen.insert(next).inserted, let message = messages[next] else { continue }
            queue += message.field.filter { $0.type == .message && $0.label != .repeated }.map(\.typeName)
        }
        return false
    }
}
