public import TLS
public import Testing

/// The record layer that the test at hand is about.
public enum TestedRecords {
    @TaskLocal public static var layer = RecordLayer.own
}

/// Runs each test of a suite over both record layers: with `TestedRecords.layer` being one, then the other.
public struct BothRecordLayers: SuiteTrait, TestTrait, TestScoping {
    public var isRecursive: Bool { true }

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        for layer in RecordLayer.allCases {
            await TestedRecords.$layer.withValue(layer) {
                do { try await function() } catch {
                    Issue.record(error, "over the records of \(layer.rawValue)")
                }
            }
        }
    }
}

extension Trait where Self == BothRecordLayers {
    public static var bothRecordLayers: BothRecordLayers { BothRecordLayers() }
}
