/// A program or one of its subcommands: what it takes and what it is for.
public struct Command: Sendable {
    /// What stands on the command line without a flag.
    public struct Argument: Sendable {
        public let name: String
        public let help: String
        public let isRequired: Bool
        /// Takes all that follow.
        public let isRepeated: Bool

        public init(_ name: String, help: String, isRequired: Bool = true, isRepeated: Bool = false) {
            self.name = name
            self.help = help
            self.isRequired = isRequired
            self.isRepeated = isRepeated
        }
    }

    public struct Example: Sendable {
        public let text: String
        public let command: String

        public init(_ text: String, _ command: String) {
            self.text = text
            self.command = command
        }
    }

    public let name: String
    /// One line.
    public let summary: String
    public let options: [OptionDeclaration]
    public let arguments: [Argument]
    public let subcommands: [Command]
    public let examples: [Example]
    /// The option that names a configuration file, whose lines are `name = value`.
    public let fileOption: String?

    public init(
        _ name: String, summary: String, options: [OptionDeclaration] = [], arguments: [Argument] = [],
        subcommands: [Command] = [], examples: [Example] = [], fileOption: String? = nil
    ) {
        precondition(
            Set(options.map(\.name)).count == options.count, "\(name) declares an option twice")
        precondition(
            subcommands.isEmpty || arguments.isEmpty, "\(name) takes subcommands or arguments, not both")
        self.name = name
        self.summary = summary
        self.options = options
        self.arguments = arguments
        self.subcommands = subcommands
        self.examples = examples
        self.fileOption = fileOption
    }
}

/// Something wrong with what a program was given: where, and what would be right.
public struct OptionProblem: Error, Equatable, Sendable, CustomStringConvertible {
    /// The flag, the variable, or file and line.
    public let place: String
    public let message: String

    public init(place: String, message: String) {
        self.place = place
        self.message = message
    }

    public var description: String { "\(place): \(message)" }
}

/// A command line that was understood.
public struct Invocation: Sendable {
    /// Where a value came from.
    public enum Source: Equatable, Sendable {
        case flag
        case environment(String)
        case file(String, line: Int)
        case standard
    }

    /// The names of the subcommands, outermost first; empty for a program without.
    public internal(set) var path: [String] = []
    public internal(set) var arguments: [String] = []
    var values: [String: (texts: [String], source: Source)] = [:]
    var declared: Set<String> = []

    /// The value of an option that the command declares.
    public subscript<Value>(option: Option<Value>) -> Value {
        let name = option.declaration.name
        precondition(declared.contains(name), "--\(name) is not an option of this command")
        guard let value = values[name].flatMap({ option.read($0.texts) }) ?? option.missing else {
            preconditionFailure("--\(name) has neither a value nor a default")
        }
        return value
    }

    public func source(of declaration: OptionDeclaration) -> Source {
        values[declaration.name]?.source ?? .standard
    }
}

/// What came of a command line.
public enum CommandOutcome: Sendable {
    case run(Invocation)
    /// Help or the version was asked for: its text.
    case answer(String)
    /// Everything that is wrong, together.
    case invalid([OptionProblem])
}
