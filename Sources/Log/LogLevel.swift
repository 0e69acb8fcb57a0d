/// How much a line matters.
public enum LogLevel: Int, Sendable, Comparable, CaseIterable {
    /// Something failed that a person must know of.
    case error
    /// Something is wrong, and Warren copes.
    case warn
    /// Rare and worth knowing: starts, stops, changes of state.
    case info
    /// For somebody who looks for a fault.
    case debug
    /// Everything, down to frames.
    case trace

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }

    public var name: String {
        switch self {
        case .error: "error"
        case .warn: "warn"
        case .info: "info"
        case .debug: "debug"
        case .trace: "trace"
        }
    }

    /// From its name in any case; `warning` is understood too.
    public init?(_ text: some StringProtocol) {
        let lower = text.lowercased()
        guard
            let level = LogLevel.allCases.first(where: {
                $0.name == lower || (lower == "warning" && $0 == .warn)
            })
        else { return nil }
        self = level
    }
}

/// Which lines are written: a level for all, and others for single scopes.
///
/// Text form: `info`, or `info,tunnel=debug,tls=trace`. A scope's rule holds for the scopes below it as well: `tunnel` for
/// `tunnel.pool`.
public struct LogFilter: Equatable, Sendable, CustomStringConvertible {
    public var level: LogLevel
    public var scopes: [String: LogLevel]

    public init(_ level: LogLevel = .info, scopes: [String: LogLevel] = [:]) {
        self.level = level
        self.scopes = scopes
    }

    /// nil when a part is neither a level nor `scope=level`.
    public init?(_ text: String) {
        self.init()
        for part in text.split(separator: ",") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let last = pair.last, let level = LogLevel(last) else { return nil }
            if pair.count == 1 {
                self.level = level
            } else if let scope = pair.first, !scope.isEmpty {
                scopes[String(scope)] = level
            } else {
                return nil
            }
        }
    }

    public var description: String {
        ([level.name] + scopes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.name)" })
            .joined(separator: ",")
    }

    /// The level that holds for a scope: that of its longest rule.
    public func level(for scope: String) -> LogLevel {
        var name = scope[...]
        while true {
            if let level = scopes[String(name)] { return level }
            guard let dot = name.lastIndex(of: ".") else { return level }
            name = name[..<dot]
        }
    }
}
