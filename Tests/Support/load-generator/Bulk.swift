import CLinux
import Glibc

private let chunkSize = 131_072

/// Bytes one way over some connections, as fast as they go.
final class Bulk {
    enum Direction: UInt8 { case up = 117, down = 100 }

    private let poll: Poll
    private let direction: Direction
    private var descriptors: [Int32] = []
    private var hasBegun: [Bool]
    private var counts: [[UInt8]]
    private var byteCount = 0
    private var openCount: Int

    init(_ target: Target, connections: Int, _ direction: Direction) throws(LoadError) {
        self.direction = direction
        poll = try Poll()
        openCount = connections
        hasBegun = Array(repeating: false, count: connections)
        counts = Array(repeating: [], count: connections)
        for index in 0..<connections {
            let descriptor = try target.connect()
            try poll.watch(descriptor, forWriting: true, token: index, isNew: true)
            descriptors.append(descriptor)
        }
    }

    /// Moves bytes for so long, then waits until every byte that was sent has been read.
    ///
    /// - Returns: bytes that arrived at the other end, and the seconds until the last one did.
    func run(seconds: Double) throws(LoadError) -> (byteCount: Int, seconds: Double) {
        let start = now()
        let end = start + Int64(seconds * 1e9)
        var isOver = false
        while openCount > 0 {
            let time = now()
            if time >= end, !isOver {
                isOver = true
                for index in descriptors.indices where descriptors[index] >= 0 { try finish(index) }
            }
            guard time < end + 20_000_000_000 else { throw .incomplete }
            for index in poll.wait(until: isOver ? end + 20_000_000_000 : end) where descriptors[index] >= 0 {
                try ready(index, isOver: isOver)
            }
        }
        return (byteCount, Double(now() - start) / 1e9)
    }

    private func ready(_ index: Int, isOver: Bool) throws(LoadError) {
        let descriptor = descriptors[index]
        if !hasBegun[index] {
            hasBegun[index] = true
            guard unsafe withUnsafeBytes(of: direction.rawValue, { unsafe sent(descriptor, $0) }) == 1 else {
                throw .system("connect", errno)
            }
            if direction == .down {
                try poll.watch(descriptor, forWriting: false, token: index, isNew: false)
            }
        } else if direction == .up, !isOver {
            guard chunk.sent(descriptor) >= 0 || errno == EAGAIN else { throw .system("send", errno) }
        } else {
            try receive(index)
        }
    }

    /// Says that no more is sent, or wanted.
    private func finish(_ index: Int) throws(LoadError) {
        shutdown(descriptors[index], Int32(SHUT_WR))
        try poll.watch(descriptors[index], forWriting: false, token: index, isNew: false)
    }

    private func receive(_ index: Int) throws(LoadError) {
        let count = chunk.received(descriptors[index])
        if count > 0 {
            if direction == .down { byteCount += count } else { counts[index] += chunk.prefix(count) }
        } else if count == 0 {
            if direction == .up {
                guard counts[index].count == 8 else { throw .incomplete }
                byteCount += counts[index].reversed().reduce(0) { $0 << 8 | Int($1) }
            }
            close(descriptors[index])
            descriptors[index] = -1
            openCount -= 1
        } else if errno != EAGAIN {
            throw .system("recv", errno)
        }
    }

    private let chunk = Chunk()
}

/// The other end: reads what comes `up` and answers with the number of its bytes once it has ended, or sends `down` until the
/// connection's other side has had enough.
final class BulkServer {
    private struct Peer {
        var direction: Bulk.Direction?
        var byteCount = 0
    }

    private let poll: Poll
    private let listener: Int32
    private var peers: [Int: Peer] = [:]
    private let chunk = Chunk()

    init(port: UInt16) throws(LoadError) {
        poll = try Poll()
        listener = try Target.listen(port: port)
        try poll.watch(listener, forWriting: false, token: Int(listener), isNew: true)
    }

    func run() throws(LoadError) -> Never {
        while true {
            for token in poll.wait(until: .max) {
                if token == Int(listener) { try accept() } else { try ready(token) }
            }
        }
    }

    private func accept() throws(LoadError) {
        let descriptor = clinux_accept4(
            listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue))
        guard descriptor >= 0 else { return }
        peers[Int(descriptor)] = Peer()
        try poll.watch(descriptor, forWriting: false, token: Int(descriptor), isNew: true)
    }

    private func ready(_ token: Int) throws(LoadError) {
        guard let peer = peers[token] else { return }
        let descriptor = Int32(token)
        if peer.direction == .down {
            let count = chunk.sent(descriptor)
            // Its end is seen between two pieces, without being woken for it.
            if count < 0 && errno != EAGAIN || chunk.received(descriptor) == 0 { end(token) }
            return
        }
        let count = chunk.received(descriptor)
        if count > 0 {
            if peer.direction == nil {
                peers[token]?.direction = Bulk.Direction(rawValue: chunk.first)
                if peers[token]?.direction == .down {
                    try poll.watch(descriptor, forWriting: true, token: token, isNew: false)
                }
            }
            peers[token]?.byteCount += peer.direction == nil ? count - 1 : count
        } else if count == 0 {
            unsafe withUnsafeBytes(of: UInt64(peer.byteCount).littleEndian) {
                unsafe _ = sent(descriptor, $0)
            }
            end(token)
        } else if errno != EAGAIN {
            end(token)
        }
    }

    private func end(_ token: Int) {
        peers[token] = nil
        close(Int32(token))
    }
}

private func sent(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
    unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
}

/// What one system call moves.
@safe
private final class Chunk {
    private let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: chunkSize, alignment: 4096)

    init() {
        unsafe bytes.initializeMemory(as: UInt8.self, repeating: 120)
    }

    deinit {
        unsafe bytes.deallocate()
    }

    var first: UInt8 { unsafe bytes[0] }

    func prefix(_ count: Int) -> [UInt8] { unsafe Array(bytes[..<count]) }

    func sent(_ descriptor: Int32) -> Int {
        unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    }

    func received(_ descriptor: Int32) -> Int {
        unsafe recv(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
    }
}
