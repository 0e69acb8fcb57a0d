import Linux

/// Writes lines of one scope. Cheap to copy and, where its level is off, to call: messages and fields are not built then.
public struct Logger: Sendable {
    private let system: LogSystem
    private let scope: LogScope

    /// - Parameter scope: what the lines are about, in lower case with dots: `tunnel.pool`. Few and fixed, never made
    ///   from a peer's data.
    public init(scope: String, system: LogSystem = .shared) {
        self.system = system
        self.scope = system.scope(scope)
    }

    public func error(
        _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        log(.error, message(), fields())
    }

    public func warn(
        _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        log(.warn, message(), fields())
    }

    public func info(
        _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        log(.info, message(), fields())
    }

    public func debug(
        _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        log(.debug, message(), fields())
    }

    public func trace(
        _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        log(.trace, message(), fields())
    }

    public func log(
        _ level: LogLevel, _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:]
    ) {
        guard scope.allows(level) else { return }
        write(level, message(), fields(), suppressed: 0)
    }

    /// Writes at most one line per `interval` from this place in the source, for what a peer can cause at will.
    ///
    /// The next line that is written carries, as `suppressed`, how many were not.
    public func limited(
        _ interval: Duration, _ level: LogLevel, _ message: @autoclosure () -> String,
        _ fields: @autoclosure () -> KeyValuePairs<String, LogValue> = [:], file: StaticString = #fileID,
        line: UInt = #line
    ) {
        guard scope.allows(level) else { return }
        let place = file.hasPointerRepresentation ? unsafe UInt(bitPattern: file.utf8Start) : 0
        let site = CallSite(file: place, line: line, scope: scope.name)
        guard let suppressed = system.admit(site, every: interval, now: .now()) else { return }
        write(level, message(), fields(), suppressed: suppressed)
    }

    private func write(
        _ level: LogLevel, _ message: String, _ fields: KeyValuePairs<String, LogValue>, suppressed: Int
    ) {
        system.write(
            LogLine(
                time: .now(), level: level, scope: scope.name, message: message, fields: fields,
                suppressed: suppressed))
    }
}
