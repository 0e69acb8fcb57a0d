/// One setting of a program, given by flag, environment variable or configuration file, with the type of its value.
///
/// Declared once, as a constant; the declaration makes the flag, the help text, the completion scripts and the checks.
public struct Option<Value: Sendable>: Sendable {
    public fileprivate(set) var declaration: OptionDeclaration
    /// What texts mean; they have been checked by `declaration.problem`.
    let read: @Sendable ([String]) -> Value?
    /// The value when nobody gave one; nil when somebody must.
    let missing: Value?
}

extension Option {
    /// The same option, with a letter for the command line.
    public func short(_ letter: Character) -> Option {
        var option = self
        option.declaration.short = letter
        return option
    }
}

/// What is known of an option without its type.
public struct OptionDeclaration: Sendable {
    public enum Kind: Equatable, Sendable {
        /// Present or not.
        case flag
        case single
        /// May be given several times.
        case list
    }

    /// Long name without its dashes.
    public let name: String
    /// A letter that means the same on the command line: `-f`.
    public fileprivate(set) var short: Character?
    public let kind: Kind
    /// Variables that set it, the first that is set counts.
    public let environment: [String]
    /// What stands for the value in the help text.
    public let placeholder: String
    public let help: String
    /// Shown in the help text; nil when there is none.
    public let defaultText: String?
    public let isRequired: Bool
    /// Values for the completion scripts.
    public let choices: [String]
    /// What is wrong with a text; nil for a good one.
    let problem: @Sendable (String) -> String?
}

/// A type of which options can be.
public protocol OptionValue: Sendable {
    init?(option text: String)
    /// What a text should have been, for the message about a wrong one: "a whole number".
    static var expectation: String { get }
}

extension Option {
    /// An option that must be given.
    public static func required(
        _ name: String, environment: [String] = [], placeholder: String, help: String
    ) -> Option where Value: OptionValue {
        Option(
            declaration: declaration(
                Value.self, name, .single, environment, placeholder, help, defaultText: nil, isRequired: true),
            read: { $0.last.flatMap { Value(option: $0) } }, missing: nil)
    }

    /// An option with a default.
    public static func defaulted(
        _ name: String, to value: Value, environment: [String] = [], placeholder: String, help: String
    ) -> Option where Value: OptionValue {
        Option(
            declaration: declaration(
                Value.self, name, .single, environment, placeholder, help, defaultText: "\(value)",
                isRequired: false),
            read: { $0.last.flatMap { Value(option: $0) } }, missing: value)
    }

    /// An option that need not be given.
    public static func optional<Wrapped: OptionValue>(
        _ name: String, environment: [String] = [], placeholder: String, help: String
    ) -> Option where Value == Wrapped? {
        Option(
            declaration: declaration(
                Wrapped.self, name, .single, environment, placeholder, help, defaultText: nil,
                isRequired: false),
            read: { texts in texts.last.map { Wrapped(option: $0) } ?? .some(nil) }, missing: .some(nil))
    }

    /// An option that may be given several times; in the environment and in files, values are separated by commas.
    public static func list<Element: OptionValue>(
        _ name: String, environment: [String] = [], placeholder: String, help: String
    ) -> Option where Value == [Element] {
        Option(
            declaration: declaration(
                Element.self, name, .list, environment, placeholder, help, defaultText: nil, isRequired: false
            ),
            read: { $0.compactMap { Element(option: $0) } }, missing: [])
    }

    private static func declaration<Element: OptionValue>(
        _ type: Element.Type, _ name: String, _ kind: OptionDeclaration.Kind, _ environment: [String],
        _ placeholder: String, _ help: String, defaultText: String?, isRequired: Bool
    ) -> OptionDeclaration {
        OptionDeclaration(
            name: name, kind: kind, environment: environment, placeholder: placeholder, help: help,
            defaultText: defaultText, isRequired: isRequired, choices: [],
            problem: { Element(option: $0) == nil ? "\"\($0)\" is not \(Element.expectation)" : nil })
    }
}

extension Option where Value == Bool {
    /// A switch: off unless given. `--name=false` and `NAME=0` say no expressly.
    public static func flag(_ name: String, environment: [String] = [], help: String) -> Option {
        Option(
            declaration: OptionDeclaration(
                name: name, kind: .flag, environment: environment, placeholder: "", help: help,
                defaultText: nil,
                isRequired: false, choices: [],
                problem: { Bool(option: $0) == nil ? "\"\($0)\" is not \(Bool.expectation)" : nil }),
            read: { $0.last.flatMap { Bool(option: $0) } }, missing: false)
    }
}

extension Option {
    /// An option whose values are few words.
    ///
    /// - Parameter value: the value when it is not given; nil when it must be.
    public static func choice(
        _ name: String, default value: Value?, environment: [String] = [], placeholder: String, help: String
    ) -> Option where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
        let choices = Value.allCases.map(\.rawValue)
        return Option(
            declaration: OptionDeclaration(
                name: name, kind: .single, environment: environment, placeholder: placeholder, help: help,
                defaultText: value?.rawValue, isRequired: value == nil, choices: choices,
                problem: {
                    choices.contains($0) ? nil : "\"\($0)\" is not one of \(choices.joined(separator: ", "))"
                }),
            read: { $0.last.flatMap { Value(rawValue: $0) } }, missing: value)
    }

    /// An option of a type that has a text form of its own.
    ///
    /// - Parameters:
    ///   - expectation: what a text should have been: "an address and port".
    ///   - value: the value when it is not given; nil when it must be.
    public static func custom(
        _ name: String, default value: Value?, environment: [String] = [], placeholder: String, help: String,
        expectation: String, parse: @escaping @Sendable (String) -> Value?
    ) -> Option {
        Option(
            declaration: OptionDeclaration(
                name: name, kind: .single, environment: environment, placeholder: placeholder, help: help,
                defaultText: value.map { "\($0)" }, isRequired: value == nil, choices: [],
                problem: { parse($0) == nil ? "\"\($0)\" is not \(expectation)" : nil }),
            read: { $0.last.flatMap(parse) }, missing: value)
    }
}
