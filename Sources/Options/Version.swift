/// Which Warren this is: what `--version`, status pages and metrics say.
public enum Version {
    public static let current = "0.1.0"
}
