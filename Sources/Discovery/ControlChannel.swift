import GRPC
import TLS

/// The two services of a control component as a node uses them. Bound to a loop, as is whoever calls it.
package protocol ControlChannel: AnyObject {
    /// Opens the xDS stream, connecting first where there is no connection. Fails soon rather than waiting.
    func openStream(_ listener: any ControlStreamListener) -> any ControlStream

    /// Calls the CA.
    ///
    /// - Parameter completion: called exactly once, at the call's deadline at the latest.
    func createCertificate(
        _ request: [UInt8], completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void)

    /// Has a client certificate, or a newer one: calls from now on go over a connection that presents it.
    func renew(_ bundle: CertificateBundle)

    /// Called whenever a connection is made.
    var onConnected: (() -> Void)? { get set }

    func close()
}

package protocol ControlStream: AnyObject {
    func send(_ message: [UInt8])
    /// Ends the stream; the listener hears nothing more of it.
    func cancel()
}

package protocol ControlStreamListener: AnyObject {
    /// The server has taken the stream.
    func streamOpened()
    func streamReceived(_ message: [UInt8])
    /// Exactly once, as the last, unless it was cancelled.
    func streamEnded(_ status: GRPCStatus)
}
