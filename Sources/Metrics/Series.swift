/// What a family is made of: knows how it is written and whether it has changed.
public protocol Measurable: AnyObject, Sendable {
    /// The TYPE of the text format.
    static var typeName: String { get }
    /// Changes whenever the value does.
    var fingerprint: UInt64 { get }
    /// Appends the sample lines.
    func encode(name: String, labels: String, scale: Double, into text: inout String)
}

extension Counter: Measurable {
    public static var typeName: String { "counter" }
    public var fingerprint: UInt64 { value }

    public func encode(name: String, labels: String, scale: Double, into text: inout String) {
        text += "\(name)_total\(braced(labels)) \(scaled(value, scale))\n"
    }
}

extension Gauge: Measurable {
    public static var typeName: String { "gauge" }
    public var fingerprint: UInt64 { UInt64(bitPattern: Int64(value)) }

    public func encode(name: String, labels: String, scale: Double, into text: inout String) {
        text += "\(name)\(braced(labels)) \(scaled(value, scale))\n"
    }
}

extension Histogram: Measurable {
    public static var typeName: String { "histogram" }
    public var fingerprint: UInt64 { count }

    public func encode(name: String, labels: String, scale: Double, into text: inout String) {
        let cumulative = cumulative
        let separator = labels.isEmpty ? "" : ","
        for (index, total) in cumulative.enumerated() {
            let bound = index < bounds.count ? "\(bounds[index])" : "+Inf"
            text += "\(name)_bucket{\(labels)\(separator)le=\"\(bound)\"} \(total)\n"
        }
        text += "\(name)_sum\(braced(labels)) \(sum)\n"
        text += "\(name)_count\(braced(labels)) \(cumulative.last ?? 0)\n"
    }
}

private func braced(_ labels: String) -> String { labels.isEmpty ? "" : "{\(labels)}" }

private func scaled(_ value: some BinaryInteger, _ scale: Double) -> String {
    scale == 1 ? "\(value)" : "\(Double(value) * scale)"
}

/// `a="x",b="y"` with the values escaped (OpenMetrics 1.0, "Exposition format").
func encodeLabels(_ names: [String], _ values: [String]) -> String {
    zip(names, values).map { name, value in
        var escaped = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return "\(name)=\"\(escaped)\""
    }.joined(separator: ",")
}
