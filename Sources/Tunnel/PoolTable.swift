import Address
import Mesh

/// What a tunnel is for. Two connections share one only if all of it is equal: then the same certificate was shown to,
/// and the same identities were demanded of, the same address.
public struct TunnelKey: Hashable, Sendable {
    public let source: Identity
    /// Of these the server has to prove one.
    public let expected: [Identity]
    public let address: SocketAddress

    public init(source: Identity, expected: [Identity], address: SocketAddress) {
        self.source = source
        self.expected = expected
        self.address = address
    }

    /// By its address alone, which tells most keys apart: a connection looks its key up several times, and the identities
    /// are six strings or more to hash, while comparing those of one workload compares pointers.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(address)
    }
}

/// Which connection uses which tunnel: the pool without sockets and clocks.
///
/// A connection that asks gets a tunnel with room, or waits for one that is being made. Whoever waits is answered when
/// that one is ready or has failed, never later; a key without tunnels leaves nothing behind.
struct PoolTable {
    typealias TunnelID = UInt64
    typealias WaiterID = UInt64

    struct Limits: Sendable {
        /// Connections in one tunnel; the peer may allow fewer.
        var streamsPerTunnel = 100
        var tunnelsPerKey = 256
        /// Connections that wait for tunnels, over all keys.
        var waiters = 16_384
        /// How long a tunnel without connections is kept, in nanoseconds; with 0 it ends with its last one, and none follows it.
        var idle: UInt64 = 300_000_000_000
    }

    enum Action: Equatable, Sendable {
        /// Make a tunnel.
        case connect(TunnelID, TunnelKey)
        /// Open the waiter's stream. It has been counted.
        case open(WaiterID, on: TunnelID)
        case refuse(WaiterID)
        /// Let the tunnel end with its last stream.
        case drain(TunnelID)
    }

    private enum State: Equatable { case connecting, ready, leaving }

    private struct Tunnel {
        let key: TunnelKey
        /// Which version of our certificate it was made with.
        let generation: UInt64
        var state = State.connecting
        var capacity: Int
        var streams = 0
        /// Streams that stand still hold up whatever is opened on it.
        var isCongested = false
        var hasRoom: Bool { streams < capacity && !isCongested }
        /// When its last connection ended.
        var idleSince: UInt64 = 0
    }

    private struct Group {
        var tunnels: [TunnelID] = []
        /// Who waits, in order.
        var queue: [WaiterID] = []
        /// Of the certificate that was asked with last.
        var generation: UInt64 = 0
        /// Streams that the peer took in one tunnel when it last said so: new tunnels are not offered more.
        var capacity = Int.max
    }

    private let limits: Limits
    private var tunnels: [TunnelID: Tunnel] = [:]
    private var groups: [TunnelKey: Group] = [:]
    private var waiting: [WaiterID: TunnelKey] = [:]
    private var nextID: TunnelID = 1

    init(_ limits: Limits = Limits()) { self.limits = limits }

    var tunnelCount: Int { tunnels.count }
    var keyCount: Int { groups.count }
    var waiterCount: Int { waiting.count }

    /// Tunnels without a connection, which `expire` may end.
    var hasIdle: Bool { tunnels.values.contains { $0.state == .ready && $0.streams == 0 } }

    func streams(of id: TunnelID) -> Int { tunnels[id]?.streams ?? 0 }

    /// The tunnels that a connection of this key may get.
    func tunnels(of key: TunnelKey) -> [TunnelID] { groups[key]?.tunnels ?? [] }

    // MARK: Connections

    /// The tunnel for a connection that need not wait, as most need not: the first with room, where nobody waits before it.
    /// Its stream is counted. Nil where more has to be done, which `request` does.
    mutating func take(_ key: TunnelKey, generation: UInt64) -> TunnelID? {
        guard let group = groups[key], group.queue.isEmpty else { return nil }
        for id in group.tunnels {
            guard let tunnel = tunnels[id], tunnel.generation == generation else { return nil }
            guard tunnel.state == .ready, tunnel.hasRoom else { continue }
            tunnels[id]?.streams += 1
            return id
        }
        return nil
    }

    /// A connection asks for a tunnel.
    ///
    /// - Parameter generation: of our certificate. Tunnels made with another one take no more connections.
    mutating func request(_ waiter: WaiterID, _ key: TunnelKey, generation: UInt64) -> [Action] {
        guard waiting.count < limits.waiters else { return [.refuse(waiter)] }
        var actions: [Action] = []
        for id in groups[key]?.tunnels ?? [] where tunnels[id]?.generation != generation {
            actions += leave(id)
        }
        groups[key, default: Group()].queue.append(waiter)
        groups[key]?.generation = generation
        waiting[waiter] = key
        return actions + serve(key)
    }

    /// A connection that waits is given up.
    mutating func cancel(_ waiter: WaiterID) {
        guard let key = waiting.removeValue(forKey: waiter) else { return }
        groups[key]?.queue.removeAll { $0 == waiter }
        forgetIfEmpty(key)
    }

    /// A stream has ended, however.
    mutating func streamEnded(_ id: TunnelID, now: UInt64) -> [Action] {
        guard let tunnel = tunnels[id], tunnel.streams > 0 else { return [] }
        tunnels[id]?.streams -= 1
        tunnels[id]?.idleSince = now
        if limits.idle == 0, tunnel.streams == 1 { return leave(id) }
        return serve(tunnel.key)
    }

    // MARK: Tunnels

    /// A tunnel takes streams, or takes another number of them than it did.
    mutating func ready(_ id: TunnelID, capacity: Int, now: UInt64) -> [Action] {
        guard let tunnel = tunnels[id], tunnel.state != .leaving else { return [] }
        if tunnel.state == .connecting {
            tunnels[id]?.state = .ready
            tunnels[id]?.idleSince = now
            tunnels[id]?.capacity = min(capacity, tunnel.capacity)
        } else {
            tunnels[id]?.capacity = min(capacity, limits.streamsPerTunnel)
            groups[tunnel.key]?.capacity = max(1, capacity)
        }
        return serve(tunnel.key)
    }

    /// Notes whether a tunnel can carry more than it does: streams that stand still may have taken the window that all of
    /// its streams share. It takes no more of them meanwhile; whoever asks next gets another tunnel.
    mutating func note(_ id: TunnelID, isCongested: Bool) {
        tunnels[id]?.isCongested = isCongested
    }

    /// A tunnel takes no more streams: the peer said so, or we do.
    mutating func leave(_ id: TunnelID) -> [Action] {
        guard let tunnel = tunnels[id], tunnel.state != .leaving else { return [] }
        // One that is still being made has its waiters; it leaves when it has served them.
        guard tunnel.state == .ready else { return [] }
        tunnels[id]?.state = .leaving
        groups[tunnel.key]?.tunnels.removeAll { $0 == id }
        let others = serve(tunnel.key)
        forgetIfEmpty(tunnel.key)
        return [.drain(id)] + others
    }

    /// A tunnel is gone.
    ///
    /// - Returns: who fails with it because it was never ready, and what follows for the others.
    mutating func closed(_ id: TunnelID) -> (failed: [WaiterID], actions: [Action]) {
        guard let tunnel = tunnels.removeValue(forKey: id) else { return ([], []) }
        groups[tunnel.key]?.tunnels.removeAll { $0 == id }
        guard tunnel.state == .connecting else {
            let actions = serve(tunnel.key)
            forgetIfEmpty(tunnel.key)
            return ([], actions)
        }
        let failed = groups[tunnel.key]?.queue ?? []
        groups[tunnel.key]?.queue = []
        for waiter in failed { waiting[waiter] = nil }
        forgetIfEmpty(tunnel.key)
        return (failed, [])
    }

    /// Ends tunnels that have had no connection for long.
    mutating func expire(now: UInt64) -> [Action] {
        let old = tunnels.filter { entry in
            entry.value.state == .ready && entry.value.streams == 0
                && now >= entry.value.idleSince &+ limits.idle
        }
        return old.keys.sorted().flatMap { leave($0) }
    }

    /// No tunnel takes connections any more.
    mutating func leaveAll() -> [Action] { tunnels.keys.sorted().flatMap { leave($0) } }

    // MARK: Serving

    /// Gives room to those who wait, in order, and makes tunnels for the rest.
    private mutating func serve(_ key: TunnelKey) -> [Action] {
        // Mostly nobody waits at all, and nothing need be looked up.
        guard !waiting.isEmpty, var group = groups[key], !group.queue.isEmpty else { return [] }
        var actions: [Action] = []
        var served = 0
        var coming = 0
        for id in group.tunnels {
            guard let tunnel = tunnels[id] else { continue }
            if tunnel.state == .connecting { coming += tunnel.capacity }
            guard tunnel.state == .ready else { continue }
            // The first with room: the later ones get idle and can be let go.
            while served < group.queue.count, tunnels[id]?.hasRoom == true {
                let waiter = group.queue[served]
                served += 1
                waiting[waiter] = nil
                tunnels[id]?.streams += 1
                actions.append(.open(waiter, on: id))
            }
        }
        group.queue.removeFirst(served)
        let capacity = min(group.capacity, limits.streamsPerTunnel)
        while coming < group.queue.count, group.tunnels.count < limits.tunnelsPerKey {
            let id = nextID
            nextID += 1
            tunnels[id] = Tunnel(key: key, generation: group.generation, capacity: capacity)
            group.tunnels.append(id)
            coming += capacity
            actions.append(.connect(id, key))
        }
        groups[key] = group
        return actions
    }

    private mutating func forgetIfEmpty(_ key: TunnelKey) {
        if let group = groups[key], group.tunnels.isEmpty, group.queue.isEmpty { groups[key] = nil }
    }
}
