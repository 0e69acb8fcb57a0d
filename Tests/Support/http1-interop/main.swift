// The HTTP/1 machines for programs that are not ours. Reads commands from standard input, one a line, and answers each with
// a line; bytes are hexadecimal, and `-` where there are none.
//
//   read BYTES                                  a server's side: `request METHOD TARGET CONTENT` for each whole request, then
//                                               `ok`, or `error NAME`, or `closed`
//   receive METHOD BYTES                        a client's side, up to the end of BYTES: `response STATUS CONTENT`, then as above
//   write METHOD TARGET FIELDS CONTENT PIECE    what a client's side sends; FIELDS are lines `name:value`, PIECE bytes of
//                                               content at a time, 0 where there is none
//   respond REQUEST STATUS FIELDS CONTENT PIECE what a server's side answers
//
// `http1-interop cost` instead prints `NAME ALLOCATIONS` for one of what NAME says.
import CAllocations
import Glibc
import HTTP1

func bytes(_ hex: Substring) -> [UInt8] {
    let digits = hex == "-" ? [] : hex.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return bytes.isEmpty ? "-" : String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}

func fields(_ hex: Substring) -> FieldBlock {
    var block = FieldBlock()
    for line in bytes(hex).split(separator: 0x0a) {
        let parts = line.split(separator: 0x3a, maxSplits: 1, omittingEmptySubsequences: false)
        block.append(parts[0], parts[1])
    }
    return block
}

func read(_ input: [UInt8]) -> String {
    var machine = HTTP1ServerSide()
    var answer: [String] = []
    var (head, content, output): (HTTP1RequestHead?, [UInt8], [UInt8]) = (nil, [], [])
    var offset = 0
    do {
        try unsafe input.withUnsafeBytes { area in
            while let event = try unsafe machine.next(area, &offset) {
                switch event {
                case .request(let request): (head, content) = (request, [])
                case .data(let range): content += input[range]
                case .end:
                    guard let head else { break }
                    answer.append("request \(head.method) \(hex(head.target)) \(hex(content))")
                    try machine.sendHead(HTTP1ResponseHead(status: 200), endStream: true, to: &output)
                default: break
                }
            }
        }
    } catch {
        return (answer + ["error \(error)"]).joined(separator: " ")
    }
    return (answer + [machine.isOver ? "closed" : "ok"]).joined(separator: " ")
}

func receive(_ method: String, _ input: [UInt8]) throws -> String {
    var machine = HTTP1ClientSide()
    var (answer, status, content, output): ([String], Int, [UInt8], [UInt8]) = ([], 0, [], [])
    var head = HTTP1RequestHead(method: method, target: Array("/".utf8))
    head.fields.append("host", "h")
    try machine.sendHead(head, endStream: true, to: &output)
    func take(_ event: HTTP1Event) {
        switch event {
        case .response(let head): status = head.status
        case .data(let range): content += input[range]
        case .end: answer.append("response \(status) \(hex(content))")
        default: break
        }
    }
    do {
        var offset = 0
        try unsafe input.withUnsafeBytes { area in
            while let event = try unsafe machine.next(area, &offset) { take(event) }
        }
        if let event = try machine.end() { take(event) }
    } catch {
        return (answer + ["error \(error)"]).joined(separator: " ")
    }
    return (answer + ["ok"]).joined(separator: " ")
}

/// Cuts content into pieces of `size` and hands each over.
func inPieces(_ content: [UInt8], _ size: Int, _ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    for start in stride(from: 0, to: content.count, by: size) {
        try unsafe content.withUnsafeBytes {
            try unsafe body(UnsafeRawBufferPointer(rebasing: $0[start..<min(content.count, start + size)]))
        }
    }
}

func write(_ words: [Substring]) throws -> String {
    var machine = HTTP1ClientSide()
    var output: [UInt8] = []
    let head = HTTP1RequestHead(method: String(words[1]), target: bytes(words[2]), fields: fields(words[3]))
    let size = Int(words[5]) ?? 0
    try machine.sendHead(head, endStream: size == 0, to: &output)
    if size > 0 {
        try unsafe inPieces(bytes(words[4]), size) { try unsafe machine.sendData($0, to: &output) }
        try machine.sendEnd(to: &output)
    }
    return hex(output)
}

func respond(_ words: [Substring]) throws -> String {
    var machine = HTTP1ServerSide()
    var output: [UInt8] = []
    var offset = 0
    try unsafe bytes(words[1]).withUnsafeBytes { while try unsafe machine.next($0, &offset) != nil {} }
    let size = Int(words[5]) ?? 0
    let head = HTTP1ResponseHead(status: Int(words[2]) ?? 0, fields: fields(words[3]))
    try machine.sendHead(head, endStream: size == 0, to: &output)
    if size > 0 {
        try unsafe inPieces(bytes(words[4]), size) { try unsafe machine.sendData($0, to: &output) }
        try machine.sendEnd(to: &output)
    }
    return hex(output)
}

/// Allocations for one of `count` that `body` does, after a first time that makes what is made once.
func measure(_ name: String, per count: Int, _ body: () throws -> Void) rethrows {
    try body()
    let before = callocations_count()
    try body()
    print(name, Double(callocations_count() - before) / Double(count))
}

func cost() throws {
    var (server, client): (HTTP1ServerSide, HTTP1ClientSide) = (HTTP1ServerSide(), HTTP1ClientSide())
    var wire: [UInt8] = []
    wire.reserveCapacity(1 << 20)
    var head = HTTP1RequestHead(method: "POST", target: Array("/a/path/of/some/length".utf8))
    for (name, value) in [
        ("host", "h"), ("user-agent", "x/1"), ("accept", "*/*"), ("x-request-id", "0123456789abcdef"),
    ] {
        head.fields.append(name, value)
    }
    var answer = HTTP1ResponseHead(status: 200)
    answer.fields.append("content-type", "text/plain")
    let piece = [UInt8](repeating: 0x61, count: 1_000)

    func serve() throws {
        var offset = 0
        try unsafe wire.withUnsafeBytes { while try unsafe server.next($0, &offset) != nil {} }
        wire.removeAll(keepingCapacity: true)
    }
    func receive() throws {
        var offset = 0
        try unsafe wire.withUnsafeBytes { while try unsafe client.next($0, &offset) != nil {} }
        wire.removeAll(keepingCapacity: true)
    }
    func content(of count: Int) throws {
        try client.sendHead(head, endStream: false, to: &wire)
        try serve()
        try measureIfWanted(count) {
            for _ in 0..<count {
                try unsafe piece.withUnsafeBytes { try unsafe client.sendData($0, to: &wire) }
                try serve()
            }
        }
        try client.sendEnd(to: &wire)
        try serve()
        try server.sendHead(answer, endStream: true, to: &wire)
        try receive()
    }
    func measureIfWanted(_ count: Int, _ body: () throws -> Void) rethrows {
        if count > 0 { try measure("chunk of 1000 bytes, sent and received", per: count, body) }
    }
    try content(of: 1_000)
    try measure("exchange, both sides", per: 1_000) { for _ in 0..<1_000 { try content(of: 0) } }
}

if CommandLine.arguments.dropFirst().first == "cost" {
    try cost()
} else {
    while let line = readLine() {
        let words = line.split(separator: " ")
        do {
            switch words.first {
            case "read": print(read(bytes(words[1])))
            case "receive": print(try receive(String(words[1]), bytes(words[2])))
            case "write": print(try write(words))
            case "respond": print(try respond(words))
            default: print("unknown command")
            }
        } catch {
            print("refused \(error)")
        }
        // Towards a pipe, lines would wait for each other.
        fflush(nil)
    }
}
