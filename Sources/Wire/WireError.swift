/// Why a resource is refused: the field that is wrong, as a path from the resource, and what is wrong with it.
///
/// Its text goes into the NACK, so that whoever sent the resource can find the place: `addresses[1]: 5 bytes, expected 4
/// or 16`.
public struct WireError: Error, Hashable, Sendable {
    public let field: String
    public let reason: String

    public init(_ field: String, _ reason: String) {
        self.field = field
        self.reason = reason
    }
}

extension WireError: CustomStringConvertible {
    public var description: String { field.isEmpty ? reason : "\(field): \(reason)" }
}

/// Runs a conversion of a part; what it refuses is named from the whole.
///
/// - Parameter field: only looked at when something is refused.
func within<Value>(
    _ field: @autoclosure () -> String, _ convert: () throws(WireError) -> Value
) throws(WireError) -> Value {
    do throws(WireError) {
        return try convert()
    } catch {
        let separator = error.field.isEmpty || error.field.hasPrefix("[") ? "" : "."
        throw WireError(field() + separator + error.field, error.reason)
    }
}

extension Array {
    /// Converts a repeated field; what is refused is named by its index.
    func converted<Value>(
        _ field: @autoclosure () -> String, _ convert: (Element) throws(WireError) -> Value
    ) throws(WireError) -> [Value] {
        guard !isEmpty else { return [] }
        var result: [Value] = []
        result.reserveCapacity(count)
        for element in self {
            let value = try within("\(field())[\(result.count)]") { () throws(WireError) in
                try convert(element)
            }
            result.append(value)
        }
        return result
    }
}
