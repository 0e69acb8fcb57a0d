/// Columns of text under headings, as wide as they need to be.
struct Table {
    let title: String
    let headings: [String]
    private(set) var rows: [[String]] = []

    init(_ title: String, _ headings: String...) {
        self.title = title
        self.headings = headings
    }

    /// Adds a row; nil shows as a dash.
    mutating func add(_ cells: String?...) {
        rows.append(cells.map { $0.map(Self.printable) ?? "-" })
    }

    func text() -> String {
        var widths = headings.map(\.count)
        for row in rows {
            for (column, cell) in row.enumerated() where column < widths.count {
                widths[column] = max(widths[column], cell.count)
            }
        }
        var lines = title.isEmpty ? [] : [title]
        for row in [headings] + rows {
            var line = ""
            for (column, cell) in row.enumerated() where column < widths.count {
                line += cell
                if column + 1 < row.count {
                    line += String(repeating: " ", count: widths[column] - cell.count + 3)
                }
            }
            lines.append(line)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What a daemon reports may hold what a peer sent: nothing of it steers a terminal.
    static func printable(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            result.unicodeScalars.append(scalar.properties.generalCategory == .control ? "�" : scalar)
        }
        return result
    }
}
