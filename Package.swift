// swift-tools-version: 6.2
import PackageDescription

// One settings list for every target of ours; nothing from outside. The arrows below are checked against the
// module map in ARCHITECTURE.md by Tools/check-arrows.
let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    // The law of exclusivity is proven at compile time where it can be, and where it cannot a debug build, which is the one that
    // the Swift tests run in, checks every access. In a release those checks were a third of a request's instructions.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

func library(_ name: String, _ dependencies: String..., excluding: [String] = []) -> Target {
    .target(
        name: name, dependencies: dependencies.map { .byName(name: $0) }, exclude: excluding,
        swiftSettings: swift)
}

func program(_ name: String, _ dependencies: String..., excluding: [String] = []) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies.map { .byName(name: $0) }, exclude: excluding,
        swiftSettings: swift)
}

func tests(_ name: String, _ dependencies: String...) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: ([name, "TestSupport"] + dependencies).map { .byName(name: $0) },
        swiftSettings: swift)
}

func shim(_ name: String, links libraries: String...) -> Target {
    .target(name: name, linkerSettings: libraries.map { .linkedLibrary($0) })
}

let package = Package(
    name: "warren",
    targets: [
        shim("CLinux"),
        shim("COpenSSL", links: "ssl", "crypto"),
        shim("CIPSecMB", links: "IPSec_MB"),
        shim("CNFTables", links: "nftnl", "mnl"),
        shim("CNGHTTP2", links: "nghttp2"),
        shim("CYAML", links: "yaml"),
        shim("CJansson", links: "jansson"),
        shim("CRE2", links: "re2", "stdc++"),

        library("Address"),
        library("Encodings"),
        library("Linux", "CLinux", "Address"),
        library("Log", "Linux"),
        library("Metrics", "Linux"),
        library("Options", "Linux"),
        library("EventLoop", "Linux", "Log", "Metrics"),
        library("Mesh", "Address"),
        library("Decision", "Address", "Mesh"),
        library("Routing", "CRE2", "Address", "Mesh"),
        library("HTTP2", "CNGHTTP2"),
        library("HTTP1"),
        library("HTTPTranslation", "HTTP1", "HTTP2"),
        library("TLS", "COpenSSL", "CIPSecMB", "Encodings", "Mesh"),
        library("Transport", "Address", "Linux", "Log", "Metrics", "EventLoop", "TLS", "HTTP2", "HTTP1"),
        library(
            "Tunnel", "Address", "Linux", "EventLoop", "TLS", "HTTP2", "Transport", "Mesh", "Metrics"),
        library(
            "L7", "Address", "Linux", "Metrics", "EventLoop", "Mesh", "Routing", "HTTP2", "HTTP1",
            "HTTPTranslation",
            "Tunnel"),
        library("Capture", "CNFTables", "Address", "Linux"),
        library("Protobuf"),
        library("Wire", "Protobuf", "Address", "Mesh", "Routing", excluding: ["Protos"]),
        library(
            "GRPC", "Address", "Encodings", "Linux", "Log", "Metrics", "EventLoop", "TLS", "HTTP2",
            "Transport", "Protobuf"),
        library(
            "Discovery", "Address", "Linux", "Log", "Metrics", "EventLoop", "TLS", "GRPC", "Protobuf", "Wire",
            "Mesh", "Routing"),
        library("Telemetry", "Address", "Linux", "Log", "Metrics", "EventLoop", "Mesh"),
        library(
            "Daemon", "Address", "Encodings", "Linux", "Log", "Options", "EventLoop", "TLS", "HTTP1",
            "Transport",
            "Discovery", "Telemetry", "Mesh"),
        library(
            "NodeAgent", "Address", "Encodings", "Linux", "Log", "Metrics", "Options", "EventLoop", "TLS",
            "HTTP1", "HTTP2", "Transport", "Tunnel", "Capture", "Decision", "Discovery", "Telemetry",
            "Daemon",
            "Wire", "Mesh"),
        library(
            "Waypoint", "Address", "Linux", "Log", "Metrics", "Options", "EventLoop", "TLS", "HTTP1", "HTTP2",
            "Transport",
            "Tunnel", "Decision", "Discovery", "Telemetry", "Daemon", "Mesh", "Routing", "L7"),
        library("Documents", "CYAML", "CJansson", "Encodings"),
        library("Manifests", "Documents", "Address", "Routing"),
        library("Compiler", "Manifests", "Documents", "Address", "Mesh", "Routing"),
        library(
            "ControlPlane", "Address", "Encodings", "Linux", "Log", "Metrics", "Options", "EventLoop", "TLS",
            "HTTP1", "Transport", "GRPC", "Protobuf", "Wire", "Mesh", "Documents", "Manifests", "Compiler"),
        library(
            "Commands", "Address", "Linux", "Options", "HTTP1", "Capture", "Documents", "Manifests",
            "Compiler",
            "ControlPlane"),

        program("protoc-gen-warren", "Protobuf", excluding: ["Protos"]),
        program("warren-node", "NodeAgent", "Daemon", "Options", "Log", "Linux"),
        program("warren-waypoint", "Waypoint", "Daemon", "Options", "Linux"),
        program("warren-control", "ControlPlane", "Options", "Log", "Linux"),
        program("warren", "Commands"),

        tests("Address"),
        tests("Encodings"),
        tests("Linux", "Address"),
        tests("Log", "Linux"),
        tests("Metrics"),
        tests("Options"),
        tests("EventLoop", "Linux", "Log", "Metrics"),
        tests("Mesh", "Address"),
        tests("Decision", "Mesh", "Address"),
        tests("Routing", "Address"),
        tests("HTTP2"),
        tests("HTTP1"),
        tests("HTTPTranslation", "HTTP1", "HTTP2"),
        tests("TLS", "COpenSSL", "CIPSecMB", "Linux", "Address", "Mesh", "TLSTestSupport"),
        tests(
            "Transport", "Address", "Linux", "Log", "Metrics", "EventLoop", "TLS", "HTTP2", "HTTP1",
            "TLSTestSupport"),
        tests(
            "Tunnel", "Address", "Linux", "Metrics", "EventLoop", "TLS", "HTTP2", "Transport", "Mesh",
            "TLSTestSupport"),
        .executableTarget(
            name: "hbone-peer",
            dependencies: ["Address", "Linux", "EventLoop", "Mesh", "TLS", "HTTP2", "Transport", "Tunnel"],
            path: "Tests/Support/hbone-peer", swiftSettings: swift),
        tests(
            "L7", "Address", "Linux", "Metrics", "EventLoop", "Mesh", "Routing", "HTTP2", "HTTP1", "Tunnel"),
        .executableTarget(
            name: "l7-proxy",
            dependencies: [
                "Address", "Linux", "EventLoop", "Mesh", "Routing", "HTTP2", "Transport", "Tunnel", "L7",
            ],
            path: "Tests/Support/l7-proxy", swiftSettings: swift),
        tests("Capture", "Address", "Linux"),
        .target(name: "TestSupport", path: "Tests/Support/TestSupport", swiftSettings: swift),
        .target(
            name: "TLSTestSupport", dependencies: ["TLS"], path: "Tests/Support/TLSTestSupport",
            swiftSettings: swift),
        .target(
            name: "TestMessages", dependencies: ["Protobuf", "TestSupport"],
            path: "Tests/Support/TestMessages",
            exclude: ["Protos"], swiftSettings: swift),
        .executableTarget(
            name: "protobuf-interop", dependencies: ["Protobuf", "Wire", "TestMessages", "TestSupport"],
            path: "Tests/Support/protobuf-interop", swiftSettings: swift),
        .executableTarget(
            name: "routing-interop", dependencies: ["Routing", "Documents"],
            path: "Tests/Support/routing-interop",
            swiftSettings: swift),
        .executableTarget(
            name: "telemetry-interop",
            dependencies: ["CAllocations", "Telemetry", "Address", "Linux", "Mesh", "Metrics", "Documents"],
            path: "Tests/Support/telemetry-interop", swiftSettings: swift),
        .executableTarget(
            name: "grpc-interop",
            dependencies: ["Address", "Linux", "EventLoop", "TLS", "HTTP2", "Transport", "GRPC"],
            path: "Tests/Support/grpc-interop", swiftSettings: swift),
        .target(name: "CAllocations", path: "Tests/Support/CAllocations"),
        .executableTarget(
            name: "routing-cost", dependencies: ["CAllocations", "Routing"],
            path: "Tests/Support/routing-cost",
            swiftSettings: swift),
        .executableTarget(
            name: "http2-allocations", dependencies: ["CAllocations", "HTTP2"],
            path: "Tests/Support/http2-allocations", swiftSettings: swift),
        .executableTarget(
            name: "http1-interop", dependencies: ["CAllocations", "HTTP1"],
            path: "Tests/Support/http1-interop", swiftSettings: swift),
        // The driver's own cost in bytes and requests, to compare before and after a change.
        .executableTarget(
            name: "transport-bench",
            dependencies: ["Address", "Linux", "EventLoop", "Metrics", "TLS", "HTTP2", "Transport"],
            path: "Tests/Support/transport-bench", swiftSettings: swift),
        // The load that Tools/bench puts on direct connections and on meshes alike; of ours it uses nothing but the shim.
        .executableTarget(
            name: "load-generator", dependencies: ["CLinux"], path: "Tests/Support/load-generator",
            swiftSettings: swift),
        // What a decision and a change of the mesh cost by its size: counted under callgrind by Tests/gates.
        .target(name: "CCallgrind", path: "Tests/Support/CCallgrind"),
        .executableTarget(
            name: "snapshot-cost",
            dependencies: ["Address", "Mesh", "Decision", "CCallgrind", "TestSupport"],
            path: "Tests/Support/snapshot-cost", swiftSettings: swift),
        tests("Protobuf", "TestMessages"),
        tests("Wire", "Protobuf", "TestMessages", "Address", "Mesh", "Routing"),
        tests("GRPC", "Address", "Linux", "Log", "EventLoop", "TLS", "HTTP2", "Transport", "Protobuf"),
        tests(
            "Discovery", "Address", "Linux", "Log", "Metrics", "EventLoop", "TLS", "Transport", "GRPC",
            "Protobuf",
            "Wire", "Mesh", "Routing"),
        tests("Telemetry", "Address", "Linux", "Log", "Mesh", "Metrics"),
        tests(
            "NodeAgent", "Daemon", "Address", "Linux", "Log", "Metrics", "EventLoop", "HTTP1", "Options",
            "Discovery",
            "Mesh", "Decision", "Capture", "TLS", "Transport"),
        tests(
            "Waypoint", "Address", "Daemon", "Discovery", "Documents", "Mesh", "Options", "Routing",
            "Telemetry"),
        tests("Documents"),
        tests("Manifests", "Documents", "Address", "Routing"),
        tests("Compiler", "Manifests", "Documents", "Mesh", "Address", "Linux", "Routing"),
        tests("Commands", "Documents", "Linux", "Manifests", "Compiler"),
        tests(
            "ControlPlane", "Address", "Linux", "Mesh", "Wire", "TLS", "Manifests", "Compiler", "Documents",
            "Protobuf", "Routing"),
    ],
    cxxLanguageStandard: .cxx17
)
