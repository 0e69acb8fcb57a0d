import Compiler
import GRPC
import Linux
import Log
import Mesh
import Wire

/// `istio.v1.auth.IstioCertificateService`: every issue and every refusal is an audit line.
final class CertificateService {
    private let issuer: CertificateIssuer
    private let registry: NodeRegistry
    private static let audit = Logger(scope: "audit")

    init(_ issuer: CertificateIssuer, _ registry: NodeRegistry) {
        self.issuer = issuer
        self.registry = registry
    }

    func create(
        _ request: Istio_V1_Auth_IstioCertificateRequest, for caller: Caller, from peer: String,
        _ resources: MeshResources
    ) -> Result<Istio_V1_Auth_IstioCertificateResponse, GRPCStatus> {
        ControlMetrics.shared.requests.add()
        let impersonated = request.metadata.text("ImpersonatedIdentity")
        do throws(CertificateIssuer.Refusal) {
            let issued = try issuer.issue(
                request.csr, to: caller, impersonating: impersonated, life: request.validityDuration,
                resources)
            ControlMetrics.shared.issued.add()
            registry.noteIssued(
                NodeRegistry.Certificate(
                    uri: issued.uri, serial: issued.certificate.serial, notAfter: issued.certificate.notAfter,
                    issuedAt: .now()), to: caller)
            Self.audit.info(
                "certificate issued",
                [
                    "caller": caller, "peer": peer, "identity": issued.uri,
                    "serial": issued.certificate.serial, "notAfter": issued.certificate.notAfter,
                ])
            var response = Istio_V1_Auth_IstioCertificateResponse()
            response.certChain = issued.chain
            return .success(response)
        } catch {
            registry.noteRefused()
            Self.audit.warn(
                "certificate refused",
                [
                    "caller": caller, "peer": peer, "identity": "\(impersonated ?? "(own)")",
                    "reason": error,
                ])
            switch error.kind {
            case .invalid:
                ControlMetrics.shared.unparsable.add()
                return .failure(GRPCStatus(.invalidArgument, error.description))
            case .notEntitled:
                ControlMetrics.shared.notEntitled.add()
                return .failure(GRPCStatus(.permissionDenied, error.description))
            case .failed: return .failure(GRPCStatus(.internal, error.description))
            }
        }
    }
}
