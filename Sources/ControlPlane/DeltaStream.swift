import Mesh

/// Whose stream it is, as far as that decides what it gets.
public struct Subscriber: Hashable, Sendable {
    /// The node whose pods the proxy may learn of; nil for a proxy of no node.
    public var node: String?
    /// The waypoint whose services it may learn of; nil for any other proxy.
    public var waypoint: NamespacedName?

    public static func node(_ name: String?) -> Subscriber { Subscriber(node: name, waypoint: nil) }
    public static func waypoint(_ name: NamespacedName) -> Subscriber {
        Subscriber(node: nil, waypoint: name)
    }
}

/// The server's side of one delta xDS stream (xDS protocol, "Incremental xDS"; Istio's dialect of it).
///
/// Requests and publications in, responses out. Of each type at most one response is unanswered: what comes meanwhile
/// is put together and leaves with the answer, so that a slow proxy costs no memory and never gets old news. A request
/// that changes a subscription is always answered, be it with nothing.
public struct DeltaStream: Sendable {
    private let subscriber: Subscriber
    private var publication: Publication
    private var subscriptions: [ResourceType: DeltaSubscription] = [:]
    private var responseCount: UInt64 = 0

    public init(_ subscriber: Subscriber, _ publication: Publication) {
        self.subscriber = subscriber
        self.publication = publication
    }

    /// What became of the responses of a type; nil before the proxy asked for it.
    public func status(of type: ResourceType) -> DeltaSubscription.Status? { subscriptions[type]?.status }

    public mutating func receive(_ request: DeltaRequest) -> DeltaResponse? {
        guard let type = ResourceType(typeURL: request.typeURL) else {
            // Whoever asks for something else waits for an answer too; an acknowledgement of it is no question.
            guard request.nonce.isEmpty else { return nil }
            return DeltaResponse(typeURL: request.typeURL, nonce: nextNonce(), resources: [], removed: [])
        }
        let isFirst = subscriptions[type] == nil
        var subscription = subscriptions[type] ?? DeltaSubscription(request)
        if !request.nonce.isEmpty { subscription.answered(request.nonce, refusal: request.refusal) }
        if !isFirst { subscription.change(request) }
        subscriptions[type] = subscription
        return respond(type)
    }

    /// Takes up a newer publication.
    ///
    /// - Returns: the responses to send now.
    public mutating func publish(_ publication: Publication) -> [DeltaResponse] {
        self.publication = publication
        return ResourceType.allCases.compactMap { respond($0) }
    }

    private mutating func respond(_ type: ResourceType) -> DeltaResponse? {
        guard var subscription = subscriptions[type],
            let difference = subscription.take(type, from: publication, for: subscriber)
        else { return nil }
        let nonce = nextNonce()
        subscription.sent(nonce)
        subscriptions[type] = subscription
        return DeltaResponse(
            typeURL: type.typeURL, nonce: nonce, resources: difference.updated, removed: difference.removed)
    }

    private mutating func nextNonce() -> String {
        responseCount += 1
        return String(responseCount)
    }
}

/// What a proxy wants of one type, and what it has.
public struct DeltaSubscription: Sendable {
    public struct Status: Sendable, Equatable {
        /// Responses accepted and refused.
        public var accepted = 0
        public var refused = 0
        /// Why the latest response was refused; nil when it was accepted.
        public var refusal: String?
        /// A response is on its way or not answered yet.
        public var isWaiting = false
    }

    /// Names an on-demand client may ask for. Beyond that it is a client that should ask for everything.
    static let nameLimit = 100_000
    /// Bytes of a name; longer ones are no resource's and are passed over.
    static let nameByteLimit = 1_024

    public private(set) var status = Status()
    private var isWildcard: Bool
    private var names: Set<String>
    /// With everything: what was sent last, as a whole. Nothing is stored by proxy.
    private var sentCollection: ResourceCollection?
    /// On demand, and before the first response: what the proxy has, by name and version.
    private var known: [String: String]
    /// Names whose resources are sent even though the proxy should have them: it asked again.
    private var requested: Set<String> = []
    private var unansweredNonce: String?
    private var owesAnswer = true

    /// The first request of a type: without names it asks for everything.
    init(_ request: DeltaRequest) {
        isWildcard = request.subscribe.isEmpty || request.subscribe.contains("*")
        if request.unsubscribe.contains("*") { isWildcard = false }
        names = Set(request.subscribe.lazy.filter(Self.isPossible).prefix(Self.nameLimit))
        names.subtract(request.unsubscribe)
        known = request.initialVersions
    }

    mutating func answered(_ nonce: String, refusal: String?) {
        // An answer to something else than the latest response is old news; what it subscribes to still counts.
        guard nonce == unansweredNonce else { return }
        unansweredNonce = nil
        status.isWaiting = false
        status.refusal = refusal
        if refusal == nil { status.accepted += 1 } else { status.refused += 1 }
    }

    mutating func change(_ request: DeltaRequest) {
        guard !request.subscribe.isEmpty || !request.unsubscribe.isEmpty else { return }
        owesAnswer = true
        for name in request.subscribe where Self.isPossible(name) {
            guard names.count < Self.nameLimit || names.contains(name) else { break }
            names.insert(name)
            requested.insert(name)
        }
        names.subtract(request.unsubscribe)
        requested.subtract(request.unsubscribe)
        let wasWildcard = isWildcard
        if request.subscribe.contains("*") { isWildcard = true }
        if request.unsubscribe.contains("*") { isWildcard = false }
        // From everything to names: what is still wanted is sent once more, which is safe.
        if wasWildcard, !isWildcard {
            sentCollection = nil
            known = [:]
        }
    }

    private static func isPossible(_ name: String) -> Bool { name != "*" && name.utf8.count <= nameByteLimit }

    mutating func sent(_ nonce: String) {
        unansweredNonce = nonce
        status.isWaiting = true
    }

    /// What to send now, which then counts as sent; nil when there is nothing to say, or an answer is awaited.
    mutating func take(
        _ type: ResourceType, from publication: Publication, for subscriber: Subscriber
    ) -> (updated: [PublishedResource], removed: [String])? {
        guard unansweredNonce == nil else { return nil }
        let collection = publication.collection(type, for: subscriber)
        var difference =
            isWildcard
            ? takeEverything(collection) : takeNamed(type, collection, publication, for: subscriber)
        // Asked for by name: sent anew, or said to be unknown, so that the client need not wait for it.
        var included = Set(difference.updated.map(\.name)).union(difference.removed)
        for name in requested.sorted() {
            let targets = publication.resolve(type, name, for: subscriber)
            if targets.isEmpty, included.insert(name).inserted { difference.removed.append(name) }
            for target in targets {
                if let resource = collection.resources[target], included.insert(target).inserted {
                    difference.updated.append(resource)
                }
            }
        }
        requested = []
        guard owesAnswer || !difference.updated.isEmpty || !difference.removed.isEmpty else { return nil }
        owesAnswer = false
        return difference
    }

    private mutating func takeEverything(
        _ collection: ResourceCollection
    ) -> (updated: [PublishedResource], removed: [String]) {
        defer {
            sentCollection = collection
            known = [:]
        }
        return sentCollection.map { collection.difference(from: $0) } ?? collection.difference(from: known)
    }

    private mutating func takeNamed(
        _ type: ResourceType, _ collection: ResourceCollection, _ publication: Publication,
        for subscriber: Subscriber
    ) -> (updated: [PublishedResource], removed: [String]) {
        var wanted: Set<String> = []
        var unknown: [String] = []
        for name in names {
            let targets = publication.resolve(type, name, for: subscriber)
            if targets.isEmpty, known[name] == nil, owesAnswer { unknown.append(name) }
            wanted.formUnion(targets)
        }
        if type == .address { wanted.formUnion(publication.localAddresses(of: subscriber.node)) }
        let updated = wanted.sorted().compactMap { name -> PublishedResource? in
            guard let resource = collection.resources[name], known[name] != resource.version else {
                return nil
            }
            return resource
        }
        let removed = known.keys.filter { collection.resources[$0] == nil }
        // What is no longer wanted is forgotten in silence: the proxy asked for that.
        known = Dictionary(
            uniqueKeysWithValues: wanted.compactMap { name in
                collection.resources[name].map { (name, $0.version) }
            })
        return (updated, (removed + unknown).sorted())
    }
}
