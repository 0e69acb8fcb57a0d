/// Writes JSON (RFC 8259) into memory: access-log lines, dumps and answers of the admin pages.
///
/// Commas and nesting are the writer's business, so what it makes is well-formed whatever the values hold. Members appear
/// in the order in which they are written.
public struct JSONWriter {
    /// What has been written so far.
    public private(set) var bytes: [UInt8] = []
    private let isPretty: Bool
    private var depth = 0
    /// The next value in this object or array is its first.
    private var isFirst = true

    /// - Parameter pretty: two blanks of indentation a level and a line per value, for people and for `istioctl`.
    public init(pretty: Bool = false) {
        isPretty = pretty
    }

    public var text: String { String(decoding: bytes, as: UTF8.self) }

    // MARK: Values, of an array or at the top

    public mutating func object(_ body: (inout JSONWriter) -> Void) {
        beginValue()
        nest("{", "}", body)
    }

    public mutating func array(_ body: (inout JSONWriter) -> Void) {
        beginValue()
        nest("[", "]", body)
    }

    public mutating func array<Element>(
        of elements: some Sequence<Element>, _ body: (inout JSONWriter, Element) -> Void
    ) {
        array { writer in for element in elements { body(&writer, element) } }
    }

    public mutating func string(_ value: some StringProtocol) {
        beginValue()
        appendQuoted(String(value), to: &bytes)
    }

    public mutating func number(_ value: some FixedWidthInteger) {
        beginValue()
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        appendDecimal(UInt64(value.magnitude), to: &bytes)
    }

    public mutating func boolean(_ value: Bool) {
        beginValue()
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    public mutating func null() {
        beginValue()
        bytes.append(contentsOf: "null".utf8)
    }

    // MARK: Members of an object

    public mutating func member(_ name: String, _ value: String) {
        key(name)
        appendQuoted(value, to: &bytes)
    }

    public mutating func member(_ name: String, _ value: some FixedWidthInteger) {
        key(name)
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        appendDecimal(UInt64(value.magnitude), to: &bytes)
    }

    public mutating func member(_ name: String, _ value: Bool) {
        key(name)
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    public mutating func nullMember(_ name: String) {
        key(name)
        bytes.append(contentsOf: "null".utf8)
    }

    public mutating func objectMember(_ name: String, _ body: (inout JSONWriter) -> Void) {
        key(name)
        nest("{", "}", body)
    }

    public mutating func arrayMember(_ name: String, _ body: (inout JSONWriter) -> Void) {
        key(name)
        nest("[", "]", body)
    }

    public mutating func arrayMember<Element>(
        _ name: String, of elements: some Sequence<Element>, _ body: (inout JSONWriter, Element) -> Void
    ) {
        arrayMember(name) { writer in for element in elements { body(&writer, element) } }
    }

    public mutating func arrayMember(_ name: String, of strings: some Sequence<String>) {
        arrayMember(name, of: strings) { $0.string($1) }
    }

    // MARK: Structure

    private mutating func key(_ name: String) {
        beginValue()
        appendQuoted(name, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
        if isPretty { bytes.append(UInt8(ascii: " ")) }
    }

    private mutating func beginValue() {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
        if depth > 0 { newLine() }
    }

    private mutating func nest(
        _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ body: (inout JSONWriter) -> Void
    ) {
        bytes.append(UInt8(ascii: open))
        depth += 1
        isFirst = true
        body(&self)
        depth -= 1
        if !isFirst { newLine() }
        bytes.append(UInt8(ascii: close))
        isFirst = false
    }

    private mutating func newLine() {
        guard isPretty else { return }
        bytes.append(UInt8(ascii: "\n"))
        bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: depth * 2))
    }
}
