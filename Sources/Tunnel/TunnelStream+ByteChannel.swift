import HTTP2
import Mesh
import Transport

extension TunnelStream: ByteChannel {
    public var isOpen: Bool { channel != nil }

    public func begin(_ delegate: any ByteChannelDelegate) {
        guard channel != nil else {
            return delegate.closed(.failed("the stream ended before it was used"))
        }
        let early = attach(delegate)
        if !early.isEmpty {
            unsafe early.withBytes {
                unsafe dataReceived($0, endStream: false)
                batchEnded()
            }
        }
        if isRemoteEnded { trailersReceived(HeaderBlock()) }
    }

    public func commit(_ byteCount: Int) { commit(byteCount, endStream: false) }

    public func send(_ bytes: UnsafeRawBufferPointer) -> Int { unsafe send(bytes, endStream: false) }

    public func close() {
        finish()
        // Bytes that nobody takes any more would keep the stream open.
        if unconsumedBytes > 0 { consumed(unconsumedBytes) }
        if !isRemoteEnded { reset(.noError) }
    }

    public func abort(_ reason: CloseReason) {
        switch reason {
        // RFC 9113 §8.5; no peer takes it for an orderly end, as some take CANCEL.
        case .resetByClient, .resetByServer: reset(.connectError)
        default: reset(.cancel)
        }
    }
}

extension ByteChannelClose {
    /// - Parameter isRemoteEnded: the peer had ended its side before.
    init(_ reason: StreamClose, isRemoteEnded: Bool) {
        switch reason {
        case .finished: self = .finished
        case .cancelled: self = .local
        case .reset(let code) where code == .noError || (code == .cancel && isRemoteEnded): self = .declined
        case .reset: self = .reset
        case .channel(let close): self = .failed("the tunnel ended: \(close)")
        }
    }
}
