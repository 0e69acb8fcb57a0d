import HTTP2
import Testing

@testable import GRPC

struct CallStateTests {
    static func block(_ fields: (String, String)...) -> HeaderBlock {
        HeaderBlock(fields.map { Header($0.0, $0.1) })
    }

    static let grpc = ("content-type", "application/grpc")

    /// Responses of one block that ends the stream, and what they mean.
    static let trailersOnly: [(HeaderBlock, GRPCStatus)] = [
        (block((":status", "200"), grpc, ("grpc-status", "0")), .ok),
        (
            block((":status", "200"), grpc, ("grpc-status", "5"), ("grpc-message", "a%20b")),
            GRPCStatus(.notFound, "a b")
        ),
        (block((":status", "200"), grpc, ("grpc-status", "99")), GRPCStatus(.unknown)),
        (block((":status", "200"), grpc, ("grpc-status", "x")), GRPCStatus(.unknown)),
        (block((":status", "200"), grpc), GRPCStatus(.unknown, "response without grpc-status")),
        (block((":status", "503")), GRPCStatus(.unavailable, "HTTP status 503")),
        (block((":status", "403")), GRPCStatus(.permissionDenied, "HTTP status 403")),
        (block((":status", "404")), GRPCStatus(.unimplemented, "HTTP status 404")),
        (block((":status", "401")), GRPCStatus(.unauthenticated, "HTTP status 401")),
        (block((":status", "418")), GRPCStatus(.unknown, "HTTP status 418")),
        (block((":status", "503"), ("grpc-status", "8")), GRPCStatus(.resourceExhausted)),
    ]

    @Test(arguments: trailersOnly)
    func `reads a status that comes at once`(row: (block: HeaderBlock, status: GRPCStatus)) {
        var state = ClientCallState()
        guard case .ended(let status, _) = state.headers(row.block, endStream: true) else {
            Issue.record("not ended")
            return
        }
        #expect(status == row.status)
    }

    @Test func `a call ends exactly once`() {
        var state = ClientCallState()
        #expect(state.headers(Self.block((":status", "103")), endStream: false) == .nothing)
        #expect(
            state.headers(Self.block((":status", "200"), Self.grpc, ("x", "1")), endStream: false)
                == .metadata(["x": "1"]))
        #expect(state.takesMessages)
        #expect(
            state.trailers(Self.block(("grpc-status", "0"), ("y", "2")), isBetweenMessages: true)
                == .ended(.ok, trailers: ["y": "2"]))
        #expect(state.end(GRPCStatus(.cancelled), trailers: [:]) == .nothing)
        #expect(state.endOfContent() == .nothing)
        #expect(!state.takesMessages)
    }

    @Test func `OK after half a message is an error`() {
        var state = ClientCallState()
        _ = state.headers(Self.block((":status", "200"), Self.grpc), endStream: false)
        guard
            case .ended(let status, _) = state.trailers(
                Self.block(("grpc-status", "0")), isBetweenMessages: false)
        else {
            Issue.record("not ended")
            return
        }
        #expect(status.code == .internal)
    }

    @Test func `a page of a proxy is no message`() {
        var state = ClientCallState()
        #expect(
            state.headers(Self.block((":status", "502"), ("content-type", "text/html")), endStream: false)
                == .nothing)
        #expect(!state.takesMessages)
        #expect(state.endOfContent() == .ended(GRPCStatus(.unavailable, "HTTP status 502"), trailers: [:]))
    }

    @Test func `an encoding that we did not offer is refused`() {
        var state = ClientCallState()
        guard
            case .ended(let status, _) = state.headers(
                Self.block((":status", "200"), Self.grpc, ("grpc-encoding", "gzip")), endStream: false)
        else {
            Issue.record("not ended")
            return
        }
        #expect(status.code == .internal)
    }

    static let resets: [(ErrorCode, GRPCStatus.Code)] = [
        (.noError, .internal), (.protocolError, .internal), (.refusedStream, .unavailable),
        (.cancel, .cancelled),
        (.enhanceYourCalm, .resourceExhausted), (.inadequateSecurity, .permissionDenied),
    ]

    @Test(arguments: resets)
    func `maps resets`(row: (error: ErrorCode, code: GRPCStatus.Code)) {
        #expect(GRPCStatus(reset: row.error).code == row.code)
    }

    static let post: [(String, String)] = [
        (":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/s/m"), grpc,
    ]

    static func request(_ more: (String, String)...) -> HeaderBlock {
        HeaderBlock((post + more).map { Header($0.0, $0.1) })
    }

    @Test func `takes what grpcio sends`() throws {
        let request = try ServerCallState.accept(
            Self.request(
                ("te", "trailers"), ("grpc-accept-encoding", "identity, deflate, gzip"),
                ("grpc-timeout", "10S"),
                ("user-agent", "grpc-python/1.60"), ("x-id", "7")))
        #expect(request.path == "/s/m" && request.timeout == .seconds(10))
        #expect(request.metadata["x-id"] == "7" && request.metadata["user-agent"] == "grpc-python/1.60")
    }

    @Test func `refuses what is no call of ours`() {
        func rejection(_ block: HeaderBlock) -> HeaderBlock? {
            do throws(ServerCallState.Rejection) {
                _ = try ServerCallState.accept(block)
                return nil
            } catch {
                return error.response
            }
        }
        #expect(
            rejection(HeaderBlock(method: "POST", scheme: "http", authority: "a", path: "/"))?.status == 415)
        var get = HeaderBlock(method: "GET", scheme: "http", authority: "a", path: "/")
        get.append("content-type", "application/grpc+proto")
        #expect(rejection(get)?.status == 405)
        let compressed = rejection(Self.request(("grpc-encoding", "gzip")))
        #expect(compressed?["grpc-status"] == "12" && compressed?["grpc-accept-encoding"] == "identity")
        #expect(rejection(Self.request(("grpc-timeout", "soon")))?["grpc-status"] == "13")
        #expect(rejection(Self.request(("grpc-encoding", "identity"))) == nil)
    }

    @Test func `headers come once, and trailers hold them when nothing was sent`() {
        var state = ServerCallState()
        #expect(state.responseHeaders(["x": "1"])?["x"] == "1")
        #expect(state.responseHeaders([:]) == nil)
        let trailers = state.finish(GRPCStatus(.aborted, "ä"), trailers: ["y": "2"])
        #expect(trailers?.map(\.name) == ["grpc-status", "grpc-message", "y"])
        #expect(trailers?["grpc-message"] == "%C3%A4")
        #expect(state.finish(.ok, trailers: [:]) == nil)

        var other = ServerCallState()
        #expect(other.finish(GRPCStatus(.unimplemented), trailers: [:])?.status == 200)
        #expect(other.responseHeaders([:]) == nil)
    }
}
