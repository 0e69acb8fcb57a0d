import HTTP1
import TestSupport

/// What a machine told, with the bytes of content instead of their place, and pieces of content put together.
enum Told: Equatable {
    case request(String, String)
    case response(Int)
    case data(String)
    case end([String])
    case tunnel(String)
    case error(HTTP1Error)
}

extension FieldBlock {
    var lines: [String] { (0..<count).map { "\(text(name(at: $0))): \(text(value(at: $0)))" } }

    func value(of name: StaticString) -> String? { self[name].map(text) }
}

/// One character a byte, so that nothing is lost.
func text(_ bytes: some Sequence<UInt8>) -> String { String(bytes.map { Character(UnicodeScalar($0)) }) }

extension [Told] {
    mutating func add(_ event: HTTP1Event, _ input: [UInt8]) {
        switch event {
        case .request(let head): append(.request(head.method, text(head.target)))
        case .response(let head): append(.response(head.status))
        case .data(let range):
            let more = text(input[range])
            if case .data(let before)? = last {
                self[count - 1] = .data(before + more)
            } else {
                append(.data(more))
            }
        case .end(let trailers): append(.end(trailers.lines))
        case .tunnel(let range):
            let more = text(input[range])
            if case .tunnel(let before)? = last {
                self[count - 1] = .tunnel(before + more)
            } else {
                append(.tunnel(more))
            }
        }
    }

    var error: HTTP1Error? {
        if case .error(let error)? = last { error } else { nil }
    }
}

/// Cuts `bytes`: into single bytes, or at random.
func pieces(_ bytes: [UInt8], seed: UInt64? = nil) -> [[UInt8]] {
    guard let seed else { return bytes.map { [$0] } }
    var random = SeededGenerator(seed: seed)
    var rest = bytes[...]
    var result: [[UInt8]] = []
    while !rest.isEmpty {
        let count = Int.random(
            in: 1...min(rest.count, 1 + Int.random(in: 0..<40, using: &random)), using: &random)
        result.append(Array(rest.prefix(count)))
        rest = rest.dropFirst(count)
    }
    return result
}

/// Feeds a server's side and answers each request with an empty 200 when it is whole; what it left is passed again.
struct ServerDriver {
    var machine: HTTP1ServerSide
    var told: [Told] = []
    var output: [UInt8] = []
    var heads: [HTTP1RequestHead] = []
    var answers = true
    private var left: [UInt8] = []

    init(_ machine: HTTP1ServerSide = HTTP1ServerSide()) { self.machine = machine }

    var leftCount: Int { left.count }

    mutating func feed(_ bytes: [UInt8]) {
        guard told.error == nil else { return }
        let input = left + bytes
        var offset = 0
        do throws(HTTP1Error) {
            while let event = try next(input, &offset) {
                told.add(event, input)
                if case .request(let head) = event { heads.append(head) }
                if case .end = event, answers {
                    try? machine.sendHead(HTTP1ResponseHead(status: 200), endStream: true, to: &output)
                }
            }
            left = Array(input[offset...])
        } catch {
            told.append(.error(error))
        }
    }

    mutating func feed(_ text: String) { feed(Array(text.utf8)) }

    private mutating func next(_ input: [UInt8], _ offset: inout Int) throws(HTTP1Error) -> HTTP1Event? {
        var result = Result<HTTP1Event?, HTTP1Error>.success(nil)
        unsafe input.withUnsafeBytes { bytes in
            do throws(HTTP1Error) { result = .success(try unsafe machine.next(bytes, &offset)) } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }
}

/// Feeds a client's side.
struct ClientDriver {
    var machine: HTTP1ClientSide
    var told: [Told] = []
    var heads: [HTTP1ResponseHead] = []
    var output: [UInt8] = []

    init(_ limits: HTTP1Limits = .streaming) { machine = HTTP1ClientSide(limits: limits) }

    mutating func request(
        _ method: String = "GET", _ target: String = "/", _ fields: [(String, String)] = [("host", "h")],
        upgrade: String? = nil, endStream: Bool = true
    ) throws {
        var head = HTTP1RequestHead(method: method, target: Array(target.utf8))
        for (name, value) in fields { head.fields.append(name, value) }
        head.upgrade = upgrade
        try machine.sendHead(head, endStream: endStream, to: &output)
    }

    mutating func feed(_ input: [UInt8]) {
        guard told.error == nil else { return }
        var offset = 0
        while told.error == nil {
            var event: HTTP1Event?
            unsafe input.withUnsafeBytes { bytes in
                do throws(HTTP1Error) { event = try unsafe machine.next(bytes, &offset) } catch {
                    told.append(.error(error))
                }
            }
            guard let event else { break }
            told.add(event, input)
            if case .response(let head) = event { heads.append(head) }
        }
    }

    mutating func feed(_ text: String) { feed(Array(text.utf8)) }

    mutating func end() {
        guard told.error == nil else { return }
        do throws(HTTP1Error) {
            if let event = try machine.end() { told.add(event, []) }
        } catch {
            told.append(.error(error))
        }
    }
}
