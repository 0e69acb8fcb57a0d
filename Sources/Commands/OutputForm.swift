import Documents

/// How a command's answer is written.
public enum OutputForm: String, CaseIterable, Sendable {
    case table, json, yaml

    func write(_ value: Value, table: @autoclosure () -> String) -> String {
        switch self {
        case .table: table()
        case .json: value.json(pretty: true) + "\n"
        case .yaml: value.yaml()
        }
    }
}
