import Protobuf
import Wire

/// A client's message on a delta stream, without its node description.
public struct DeltaRequest: Sendable {
    public var typeURL: String
    public var subscribe: [String]
    public var unsubscribe: [String]
    /// What the client has from an earlier stream, by name.
    public var initialVersions: [String: String]
    /// The response that it answers; empty when it answers none.
    public var nonce: String
    /// Why the client refuses that response; nil accepts it.
    public var refusal: String?

    public init(
        typeURL: String, subscribe: [String] = [], unsubscribe: [String] = [],
        initialVersions: [String: String] = [:],
        nonce: String = "", refusal: String? = nil
    ) {
        self.typeURL = typeURL
        self.subscribe = subscribe
        self.unsubscribe = unsubscribe
        self.initialVersions = initialVersions
        self.nonce = nonce
        self.refusal = refusal
    }

    public init(_ wire: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest) {
        self.init(
            typeURL: wire.typeURL, subscribe: wire.resourceNamesSubscribe,
            unsubscribe: wire.resourceNamesUnsubscribe,
            initialVersions: wire.initialResourceVersions, nonce: wire.responseNonce,
            // The code is of no help: ztunnel leaves it 0.
            refusal: wire.hasErrorDetail ? wire.errorDetail.message : nil)
    }
}

/// The server's answer.
public struct DeltaResponse: Sendable, Equatable {
    public var typeURL: String
    public var nonce: String
    public var resources: [PublishedResource]
    public var removed: [String]

    /// `envoy.service.discovery.v3.DeltaDiscoveryResponse`. The resources are encoded already, and a repeated message
    /// looks on the wire as repeated bytes do.
    public func serializedBytes() -> [UInt8] {
        var writer = Writer()
        writer.write(1, nonce, .string)
        writer.writeRepeated(2, resources.map(\.encoded), .bytes)
        writer.write(4, typeURL, .string)
        writer.write(5, nonce, .string)
        writer.writeRepeated(6, removed, .string)
        return writer.bytes
    }
}
