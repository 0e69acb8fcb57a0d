"""A small network in namespaces, and the means to look at what crosses it. Used by Tools/run, Tools/bench and Tests/e2e."""
