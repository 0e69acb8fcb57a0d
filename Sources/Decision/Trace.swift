/// The reasons of a decision, in the order in which they were met.
///
/// The data path asks for none, and then nothing is built; `warren explain` and rehearsals ask for all.
public struct Trace: Sendable {
    public private(set) var steps: [String] = []
    let isRecording: Bool

    private init(isRecording: Bool) {
        self.isRecording = isRecording
    }

    public static var off: Trace { Trace(isRecording: false) }
    public static var recording: Trace { Trace(isRecording: true) }

    /// - Parameter step: a sentence for a person; evaluated only when somebody listens.
    @inline(__always)
    mutating func add(_ step: @autoclosure () -> String) {
        if isRecording { steps.append(step()) }
    }
}
