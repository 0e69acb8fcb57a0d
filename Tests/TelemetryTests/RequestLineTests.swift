import Address
import Linux
import Testing

@testable import Telemetry

struct RequestLineTests {
    private static let time = WallClock(seconds: 1_700_000_000, nanoseconds: 12_999_999)

    private static func record(_ change: (inout RequestRecord) -> Void = { _ in }) -> RequestRecord {
        var record = RequestRecord(
            start: time, client: .init(address: SocketAddress("10.0.0.1:40000")),
            destination: .init(address: SocketAddress("10.0.0.9:9080")),
            cluster: RequestRecord.clusterName(host: "reviews.shop.svc.cluster.local", port: 8080),
            method: "GET", path: "/reviews/0?full=1", authority: "reviews:8080", protocolName: "HTTP/1.1",
            forwardedFor: "192.0.2.7", userAgent: "curl/8.1", requestID: "84cc70e7-5e94",
            status: 200, details: "via_upstream", routeName: "default", attempts: 1, bytesReceived: 3,
            bytesSent: 358, duration: .microseconds(13_999), upstreamTime: .milliseconds(12),
            upstreamLocalAddress: SocketAddress("10.0.0.5:51000"),
            localAddress: SocketAddress("10.96.0.4:8080"))
        change(&record)
        return record
    }

    private func line(_ record: RequestRecord, _ format: AccessFormat = .text) -> String {
        var formatter = RequestLineFormatter(format)
        return String(decoding: formatter.line(record), as: UTF8.self)
    }

    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var record: RequestRecord
        var line: String
    }

    static let cases = [
        Case(
            testDescription: "an endpoint's answer", record: record(),
            line: """
                [2023-11-14T22:13:20.012Z] "GET /reviews/0?full=1 HTTP/1.1" 200 - via_upstream - "-" 3 358 13 12 \
                "192.0.2.7" "curl/8.1" "84cc70e7-5e94" "reviews:8080" "10.0.0.9:9080" \
                inbound-vip|8080|http|reviews.shop.svc.cluster.local 10.0.0.5:51000 10.96.0.4:8080 \
                10.0.0.1:40000 - default
                """),
        Case(
            testDescription: "nothing is known but that it came",
            record: RequestRecord(start: time, client: .init(address: nil)),
            line:
                #"[2023-11-14T22:13:20.012Z] "- - -" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - - - - -"#),
        Case(
            testDescription: "no route takes it",
            record: RequestRecord(
                start: time, client: .init(address: SocketAddress("[fd00::1]:40000")), method: "GET",
                path: "/nowhere", authority: "h.example", protocolName: "HTTP/2", status: 404, flags: "NR",
                details: "route_not_found", localAddress: SocketAddress("[fd00::4]:80")),
            line: """
                [2023-11-14T22:13:20.012Z] "GET /nowhere HTTP/2" 404 NR route_not_found - "-" 0 0 0 - "-" "-" "-" \
                "h.example" "-" - - [fd00::4]:80 [fd00::1]:40000 - -
                """),
        Case(
            testDescription:
                "blanks are none in a field without quotes, and an empty header is not a missing one",
            record: record {
                $0.status = 503
                $0.flags = "URX,UF"
                $0.details = "upstream_reset{connection refused}"
                $0.transportFailure = "connection failed: Connection refused"
                $0.forwardedFor = ""
                $0.userAgent = nil
                $0.upstreamTime = nil
                $0.upstreamLocalAddress = nil
                $0.cluster = RequestRecord.clusterName(host: "reviews.shop", port: 80, subset: "v 2")
                $0.requestedServerName = "a b.example"
                $0.routeName = ""
            },
            line: """
                [2023-11-14T22:13:20.012Z] "GET /reviews/0?full=1 HTTP/1.1" 503 URX,UF \
                upstream_reset{connection_refused} - "connection_failed:_Connection_refused" 3 358 13 - "" "-" \
                "84cc70e7-5e94" "reviews:8080" "10.0.0.9:9080" inbound-vip|80|http/v_2|reviews.shop - \
                10.96.0.4:8080 10.0.0.1:40000 a_b.example -
                """),
        Case(
            testDescription: "negative durations and statuses are none",
            record: record {
                $0.duration = .milliseconds(-5)
                $0.upstreamTime = .milliseconds(-1)
                $0.status = -1
            },
            line: """
                [2023-11-14T22:13:20.012Z] "GET /reviews/0?full=1 HTTP/1.1" 0 - via_upstream - "-" 3 358 0 0 \
                "192.0.2.7" "curl/8.1" "84cc70e7-5e94" "reviews:8080" "10.0.0.9:9080" \
                inbound-vip|8080|http|reviews.shop.svc.cluster.local 10.0.0.5:51000 10.96.0.4:8080 \
                10.0.0.1:40000 - default
                """),
    ]

    @Test(arguments: cases) func `a line is Envoy's`(_ one: Case) {
        #expect(line(one.record) == one.line + "\n")
    }

    @Test func `JSON has Istio's keys in Envoy's order, numbers as numbers and null for what is not there`() {
        #expect(
            line(Self.record { $0.userAgent = nil }, .json) == """
                {"authority":"reviews:8080","bytes_received":3,"bytes_sent":358,\
                "connection_termination_details":null,"downstream_local_address":"10.96.0.4:8080",\
                "downstream_remote_address":"10.0.0.1:40000","duration":13,"method":"GET",\
                "path":"/reviews/0?full=1","protocol":"HTTP/1.1","request_id":"84cc70e7-5e94",\
                "requested_server_name":null,"response_code":200,"response_code_details":"via_upstream",\
                "response_flags":"-","route_name":"default","start_time":"2023-11-14T22:13:20.012Z",\
                "upstream_cluster":"inbound-vip|8080|http|reviews.shop.svc.cluster.local",\
                "upstream_host":"10.0.0.9:9080","upstream_local_address":"10.0.0.5:51000",\
                "upstream_service_time":"12","upstream_transport_failure_reason":null,"user_agent":null,\
                "x_forwarded_for":"192.0.2.7"}

                """)
    }

    @Test func `JSON says when a request was tried more than once`() {
        let tried = line(Self.record { $0.attempts = 3 }, .json)
        #expect(
            tried.replacing("\"upstream_request_attempt_count\":3,", with: "") == line(Self.record(), .json))
        #expect(tried != line(Self.record(), .json))
    }

    private let texts: [WritableKeyPath<RequestRecord, String?>] = [
        \.method, \.path, \.authority, \.protocolName, \.forwardedFor, \.userAgent, \.requestID,
        \.requestedServerName, \.details, \.transportFailure, \.cluster, \.routeName,
    ]

    /// The fields of a line, by blanks outside quotes.
    private func fields(_ line: String) -> [String] {
        var (fields, quoted, escaped) = ([""], false, false)
        for character in line.dropLast() {
            if character == "\"" && !escaped { quoted.toggle() }
            escaped = character == "\\" && !escaped
            if character == " " && !quoted {
                fields.append("")
            } else {
                fields[fields.count - 1].append(character)
            }
        }
        return quoted ? [] : fields
    }

    @Test(arguments: [
        "x\" 200 - forged", "a\nb", "a\r\nb", "back\\", "back\\\" \"", "\u{1b}[2J", "\u{85}", "\u{2028}",
        "\u{202e}gnp", "nul\0", "tab\tbed", "two words", "\u{a0}", "\u{7f}", "é漢😀", "\u{FFFD}", "-",
    ])
    func `no value can end itself, its line or its terminal's state`(hostile: String) {
        for text in texts {
            let forged = Self.record { $0[keyPath: text] = hostile }
            for format in AccessFormat.allCases {
                let line = line(forged, format)
                #expect(line.utf8.count { $0 == UInt8(ascii: "\n") } == 1 && line.hasSuffix("\n"))
                #expect(!line.unicodeScalars.dropLast().contains { $0.value < 0x20 || $0 == "\u{7f}" })
                #expect(!line.unicodeScalars.contains { ["\u{85}", "\u{2028}", "\u{202e}"].contains($0) })
            }
            let honest = fields(line(Self.record()))
            let all = fields(line(forged))
            #expect(all.count == honest.count && honest.count == 22)
            #expect(zip(all, honest).count { $0 != $1 } <= 1)
        }
    }

    @Test func `the words of a request's line cannot become more than three`() {
        let forged = line(Self.record { $0.path = "/ HTTP/1.1\" 200" })
        #expect(forged.contains(#" "GET /_HTTP/1.1\"_200 HTTP/1.1" 200 "#))
    }

    @Test func `fields are cut between characters, and say so`() {
        for length in 4_090...4_100 {
            let path = "/" + String(repeating: "é", count: length / 2)
            let cut = line(Self.record { $0.path = path }).split(separator: " ")[2]
            if path.utf8.count <= 4_096 {
                #expect(cut == path)
            } else {
                #expect(cut == path.prefix(1 + 2_047) + "...")
            }
        }
        let agent = String(repeating: "a", count: 1_025)
        #expect(line(Self.record { $0.userAgent = agent }).contains("\"\(agent.dropLast())...\""))
        #expect(line(Self.record { $0.userAgent = agent }, .json).contains("\"\(agent.dropLast())...\""))
    }

    @Test(arguments: AccessFormat.allCases)
    func `a line has a limit whatever a client sends`(format: AccessFormat) {
        let record = Self.record { record in
            for text in texts { record[keyPath: text] = String(repeating: "\u{1}", count: 100_000) }
            record.flags = String(repeating: "\u{1}", count: 100_000)
        }
        let count = line(record, format).utf8.count
        #expect(count > 10_000 && count < 64 << 10)
    }

    @Test func `the time is right across seconds`() {
        var formatter = RequestLineFormatter(.text)
        func stamp(_ seconds: Int64, _ nanoseconds: Int32) -> String {
            let line = formatter.line(
                RequestRecord(
                    start: WallClock(seconds: seconds, nanoseconds: nanoseconds), client: .init(address: nil))
            )
            return String(decoding: line.prefix(26), as: UTF8.self)
        }
        #expect(stamp(0, 999_999_999) == "[1970-01-01T00:00:00.999Z]")
        #expect(stamp(1, 0) == "[1970-01-01T00:00:01.000Z]")
        #expect(stamp(1, 7_000_000) == "[1970-01-01T00:00:01.007Z]")
    }
}
