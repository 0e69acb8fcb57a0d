import Tunnel

/// What an HTTP/1 connection sends: heads and framing through a small buffer, content straight into the channel's.
struct FramedOutput {
    private let channel: any ByteChannel
    /// Written by the machine, and not yet taken by the channel. Nothing else is sent before it, so it holds a head and a chunk at most.
    var pending: [UInt8] = []
    private var framing: [UInt8] = []

    /// More than a chunk's framing takes.
    private static let framingLimit = 32
    /// What is framed through the small buffer where the channel has next to no room.
    private static let crumb = 1_024

    init(_ channel: any ByteChannel) { self.channel = channel }

    var isEmpty: Bool { pending.isEmpty }

    mutating func flush() {
        guard !pending.isEmpty else { return }
        let sent = unsafe pending.withUnsafeBytes { unsafe channel.send($0) }
        if sent == pending.count {
            pending.removeAll(keepingCapacity: sent <= 4_096)
        } else {
            pending.removeFirst(sent)
        }
    }

    /// Sends content between what `before` and `after` write for a count of bytes.
    ///
    /// - Returns: how many bytes were taken; nil when `before` said that they cannot be sent.
    mutating func send(
        _ bytes: UnsafeRawBufferPointer, before: (Int, inout [UInt8]) -> Bool,
        after: (Int, inout [UInt8]) -> Void
    ) -> Int? {
        flush()
        guard pending.isEmpty else { return 0 }
        var taken = 0
        while taken < bytes.count {
            guard let area = unsafe channel.reserve(bytes.count - taken + 2 * Self.framingLimit) else {
                return taken
            }
            let room = area.count - 2 * Self.framingLimit
            guard room > 0 else {
                channel.commit(0)
                let count = min(Self.crumb, bytes.count - taken)
                guard before(count, &pending) else { return nil }
                unsafe pending.append(contentsOf: bytes[taken..<taken + count])
                after(count, &pending)
                taken += count
                flush()
                if pending.isEmpty { continue }
                return taken
            }
            let count = min(room, bytes.count - taken)
            framing.removeAll(keepingCapacity: true)
            guard before(count, &framing) else {
                channel.commit(0)
                return nil
            }
            var end = 0
            func put(_ piece: UnsafeRawBufferPointer) {
                unsafe UnsafeMutableRawBufferPointer(rebasing: area[end..<end + piece.count]).copyMemory(
                    from: piece)
                end += piece.count
            }
            unsafe framing.withUnsafeBytes { unsafe put($0) }
            unsafe put(UnsafeRawBufferPointer(rebasing: bytes[taken..<taken + count]))
            framing.removeAll(keepingCapacity: true)
            after(count, &framing)
            unsafe framing.withUnsafeBytes { unsafe put($0) }
            channel.commit(end)
            taken += count
        }
        return taken
    }
}
