import Protobuf

extension GRPCChannel {
    /// A unary call of messages.
    ///
    /// - Parameter completion: called exactly once; a response that cannot be read is `internal`.
    @discardableResult
    public func unary<Response: Message>(
        _ path: String, _ request: some Message, as response: Response.Type = Response.self,
        metadata: GRPCMetadata = [:], timeout: Duration? = nil, waitsForReady: Bool = false,
        completion: @escaping (Result<Response, GRPCStatus>) -> Void
    ) -> GRPCClientCall {
        unary(
            path, request.serializedBytes(), metadata: metadata, timeout: timeout,
            waitsForReady: waitsForReady
        ) { result in
            completion(result.flatMap { bytes in .decoding(bytes, failing: .internal) })
        }
    }
}

extension GRPCServer {
    /// Adds a unary method of messages. A request that cannot be read is answered with `invalidArgument`.
    public func registerUnary<Request: Message, Response: Message>(
        _ path: String, _ request: Request.Type = Request.self,
        _ method:
            @escaping (
                _ call: GRPCServerCall, _ request: Request,
                _ reply: @escaping (Result<Response, GRPCStatus>) -> Void
            ) -> Void
    ) {
        registerUnary(path, messageLimit: .max, admit: { _ in .success(()) }) {
            (call, _, request: Request, reply) in
            method(call, request, reply)
        }
    }

    /// The same for a method that not everybody may call; see the one of bytes.
    public func registerUnary<Admitted, Request: Message, Response: Message>(
        _ path: String, messageLimit: Int,
        admit: @escaping (GRPCServerCall) -> Result<Admitted, GRPCStatus>,
        _ method:
            @escaping (
                _ call: GRPCServerCall, _ admitted: Admitted, _ request: Request,
                _ reply: @escaping (Result<Response, GRPCStatus>) -> Void
            ) -> Void
    ) {
        registerUnary(path, messageLimit: messageLimit, admit: admit) {
            (call, admitted, bytes: [UInt8], reply: @escaping (Result<[UInt8], GRPCStatus>) -> Void) in
            switch Result<Request, GRPCStatus>.decoding(bytes, failing: .invalidArgument) {
            case .success(let request):
                method(call, admitted, request) { reply($0.map { $0.serializedBytes() }) }
            case .failure(let status): reply(.failure(status))
            }
        }
    }
}

extension Result where Success: Message, Failure == GRPCStatus {
    fileprivate static func decoding(_ bytes: [UInt8], failing code: GRPCStatus.Code) -> Self {
        do {
            return .success(try Success(serializedBytes: bytes))
        } catch {
            return .failure(GRPCStatus(code, "malformed message: \(error)"))
        }
    }
}
