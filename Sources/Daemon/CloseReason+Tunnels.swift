import Mesh
import Transport

extension CloseReason {
    /// Why a tunnel never came about; nil for a peer that only left, as probes of the port do.
    package init?(beforeHandshake close: ChannelClose) {
        switch close {
        case .tls(let error): self = .tlsFailed("\(error)")
        case .handshakeTimeout: self = .tlsFailed("the peer did not finish the handshake in time")
        case .http2(let error): self = .http2Failed("\(error)")
        default: return nil
        }
    }
}

extension CloseReason {
    /// Whether another endpoint may do better. A verdict about the client holds for all of them.
    package var mayBeTriedElsewhere: Bool {
        switch self {
        case .connectFailed, .connectTimedOut, .hboneTimedOut, .tlsFailed, .http2Failed: true
        case .refusedByPeer(let status, _): status == 503
        default: false
        }
    }
}
