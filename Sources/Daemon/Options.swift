import Address
import Discovery
import Log
import Options

/// `host:port` of the control component, with or without the scheme that ztunnel's variable has.
package struct ControlEndpoint: OptionValue, CustomStringConvertible {
    package let description: String

    package init?(option text: String) {
        let bare = text.hasPrefix("https://") ? String(text.dropFirst("https://".count)) : text
        guard let colon = bare.utf8.lastIndex(of: UInt8(ascii: ":")),
            let port = parsePort(bare[bare.utf8.index(after: colon)...]), port != 0, colon > bare.startIndex
        else { return nil }
        description = bare
    }

    package static let expectation = "a host and port such as control.example:15012"
}

/// ztunnel's filters name crates of Rust and know a level that switches off: such parts say nothing here.
package func readLogFilter(_ text: String) -> LogFilter? {
    let parts = text.split(separator: ",").filter { !$0.contains("::") && !$0.hasSuffix("=off") }
    return LogFilter(parts.joined(separator: ","))
}

/// What is wrong with a command line.
public struct InvalidOptions: Error, CustomStringConvertible {
    public let problems: [OptionProblem]

    package init(problems: [OptionProblem]) {
        self.problems = problems
    }

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

extension TextSource {
    /// ztunnel's variables hold either a path or the thing itself, which is told by how that begins.
    package init(option text: String, startsWith mark: String) {
        self = text.hasPrefix(mark) ? .literal(text) : .file(text)
    }
}

/// `--control` names nothing that could be connected to.
package struct InvalidControlAddress: Error, CustomStringConvertible {
    package let address: String

    package init(address: String) {
        self.address = address
    }

    package var description: String { "\"\(address)\" is not a control component's host:port" }
}
