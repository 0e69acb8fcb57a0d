import HTTP1
import TestSupport
import Testing

struct CutPointTests {
    static let requests = Array(
        ("POST /a HTTP/1.1\r\nHost: h\r\nX-A:  v w \t\r\nContent-Length: 5\r\n\r\nhello\r\n"
            + "PUT http://h/b HTTP/1.1\r\nHost: H:80\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b;\\\"\";c\r\nabc\r\n"
            + "0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nCookie: dropped\r\n\r\n"
            + "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nConnection: foo, keep-alive\r\n\r\n"
            + "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .utf8)

    static func events(_ parts: [[UInt8]]) -> [Told] {
        var driver = ServerDriver()
        for part in parts { driver.feed(part) }
        return driver.told
    }

    @Test func `two pieces give the same events at every cut, valid or not`() {
        var inputs = [Self.requests]
        inputs.append(
            Array("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n".utf8))
        for input in inputs {
            let whole = Self.events([input])
            for cut in 1..<input.count {
                #expect(Self.events([Array(input[..<cut]), Array(input[cut...])]) == whole)
            }
            #expect(Self.events(pieces(input)) == whole)
        }
        #expect(
            Self.events([Self.requests]).filter { if case .request = $0 { true } else { false } }.count == 5)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `random mutations end alike however cut, and nothing passes that an independent check refuses`(
        seed: UInt64
    ) {
        var random = SeededGenerator(seed: seed)
        let spices: [[UInt8]] = [
            [0x0d], [0x0a], [0x0d, 0x0a], [0x20], [0x09], [0], [0x3a], [0x2c], [0x3b], [0x30], [0x5f], [0x80],
            Array("\r\nTransfer-Encoding: chunked".utf8), Array("\r\nContent-Length: 3".utf8),
            Array("\r\nHost: x".utf8),
            Array("HTTP/1.0".utf8), Array("\r\n 5".utf8), Array("ffffffffffffffff".utf8),
        ]
        for round in 0..<150 {
            var bytes = Self.requests
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: place)
                case 2:
                    bytes.removeSubrange(
                        place..<min(bytes.count, place + Int.random(in: 1..<30, using: &random)))
                default: bytes.insert(contentsOf: spices.randomElement(using: &random) ?? [], at: place)
                }
            }
            let whole = Self.events([bytes])
            #expect(Self.events(pieces(bytes)) == whole)
            #expect(Self.events(pieces(bytes, seed: seed &* 1_000 &+ UInt64(round))) == whole)

            let allowed = StrictCheck.requests(bytes)
            #expect(isPrefix(Self.messages(whole), of: allowed), "\(text(bytes))")
        }
    }

    private func isPrefix(_ some: [StrictCheck.Message], of all: [StrictCheck.Message]) -> Bool {
        some.count <= all.count && zip(some, all).allSatisfy { $0 == $1 }
    }

    /// The requests that were told whole.
    private static func messages(_ told: [Told]) -> [StrictCheck.Message] {
        var result: [StrictCheck.Message] = []
        var message = StrictCheck.Message()
        for event in told {
            switch event {
            case .request(let method, let target): message = .init(method: method, target: target)
            case .data(let content): message.content += content
            case .end: result.append(message)
            default: break
            }
        }
        return result
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `mutated responses end alike however cut`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let response = Array(
            ("HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX: y\r\n\r\n").utf8)
        for _ in 0..<150 {
            var bytes = response
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                if Bool.random(using: &random) {
                    bytes[place] = UInt8.random(in: 0...255, using: &random)
                } else {
                    bytes.remove(at: place)
                }
            }
            let all = try [[bytes], pieces(bytes), pieces(bytes, seed: seed)].map { parts in
                var driver = ClientDriver()
                try driver.request()
                for part in parts { driver.feed(part) }
                driver.end()
                return driver.told
            }
            #expect(all[0] == all[1] && all[0] == all[2])
        }
    }
}

/// A second opinion on requests, written from the grammar alone: over the whole input, by splitting, slow and simple.
enum StrictCheck {
    struct Message: Equatable {
        var method = ""
        var target = ""
        var content = ""
    }

    /// The requests from the start of `bytes` that are beyond doubt.
    static func requests(_ bytes: [UInt8]) -> [Message] {
        var rest = text(bytes)[...]
        var result: [Message] = []
        while let message = request(&rest) {
            result.append(message.0)
            if !message.keeps { break }
        }
        return result
    }

    private static let names = Set(
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".map { $0 })

    /// Scalars, not characters: CR and LF would be one.
    private static func line(_ rest: inout Substring) -> Substring? {
        let scalars = rest.unicodeScalars
        guard let feed = scalars.firstIndex(of: "\n") else { return nil }
        let line = scalars[..<feed]
        guard line.last == "\r", !line.dropLast().contains("\r") else { return nil }
        rest = Substring(scalars[scalars.index(after: feed)...])
        return Substring(line.dropLast())
    }

    private static func field(_ line: Substring) -> (String, String)? {
        guard let colon = line.firstIndex(of: ":"), colon > line.startIndex,
            line[..<colon].allSatisfy(names.contains),
            line.unicodeScalars.allSatisfy({ $0.value == 9 || $0.value >= 32 && $0.value != 127 })
        else { return nil }
        var value = line[line.index(after: colon)...]
        while let first = value.first, first == " " || first == "\t" { value.removeFirst() }
        while let last = value.last, last == " " || last == "\t" { value.removeLast() }
        return (line[..<colon].lowercased(), String(value))
    }

    private static func request(_ rest: inout Substring) -> (Message, keeps: Bool)? {
        guard var start = line(&rest) else { return nil }
        if start.isEmpty {
            guard let next = line(&rest) else { return nil }
            start = next
        }
        let parts = start.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(names.contains), !parts[1].isEmpty,
            parts[1].unicodeScalars.allSatisfy({ $0.value > 32 && $0.value < 127 && $0 != "#" }),
            parts[2] == "HTTP/1.1" || parts[2] == "HTTP/1.0"
        else { return nil }
        let isCurrent = parts[2] == "HTTP/1.1"
        var fields: [(String, String)] = []
        while true {
            guard let next = line(&rest) else { return nil }
            if next.isEmpty { break }
            guard let field = field(next) else { return nil }
            fields.append(field)
        }
        let all = { (name: String) in fields.filter { $0.0 == name }.map(\.1) }
        guard all("host").count == 1 || all("host").isEmpty && !isCurrent else { return nil }
        var message = Message(method: String(parts[0]), target: String(parts[1]))
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"))
        guard lengths.count + codings.count <= 1 else { return nil }
        if let length = lengths.first {
            guard let count = Int(length), length.allSatisfy({ "0123456789".contains($0) }),
                rest.unicodeScalars.count >= count
            else { return nil }
            message.content = String(rest.unicodeScalars.prefix(count))
            rest = Substring(rest.unicodeScalars.dropFirst(count))
        } else if let coding = codings.first {
            guard isCurrent, coding.lowercased() == "chunked", let content = chunks(&rest) else { return nil }
            message.content = content
        }
        let options = all("connection").flatMap { $0.split(separator: ",") }
            .map { $0.lowercased().filter { $0 != " " && $0 != "\t" } }
        return (message, !options.contains("close") && (isCurrent || options.contains("keep-alive")))
    }

    private static func chunks(_ rest: inout Substring) -> String? {
        var content = ""
        while true {
            guard let head = line(&rest) else { return nil }
            let digits = head.prefix { $0 != ";" }
            guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
                let size = Int(digits, radix: 16),
                head.unicodeScalars.allSatisfy({ $0.value == 9 || $0.value >= 32 && $0.value != 127 })
            else { return nil }
            if size == 0 { break }
            guard rest.unicodeScalars.count >= size + 2 else { return nil }
            content += String(rest.unicodeScalars.prefix(size))
            rest = Substring(rest.unicodeScalars.dropFirst(size))
            guard line(&rest) == "" else { return nil }
        }
        while let next = line(&rest) {
            if next.isEmpty { return content }
            guard let field = field(next), !["host", "content-length", "transfer-encoding"].contains(field.0)
            else { return nil }
        }
        return nil
    }
}
