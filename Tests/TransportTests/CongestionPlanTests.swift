import Testing

@testable import Transport

struct CongestionPlanTests {
    @Test(arguments: [
        // BBR is left to long paths, whichever of its versions it is.
        (CongestionChoice.auto, "bbr", ["cubic", "reno"], "bbr" as String?),
        (.auto, "bbr2", ["cubic", "reno"], "bbr2"),
        // Whatever else the operator has chosen stays.
        (.auto, "cubic", [], nil), (.auto, "reno", [], nil), (.auto, "dctcp", [], nil), (.auto, "", [], nil),
        (.system, "bbr", [], nil), (.system, "cubic", [], nil),
        (.named("bbr"), "cubic", ["bbr"], nil), (.named("dctcp"), "bbr", ["dctcp"], nil),
    ])
    func `connections begin unpaced where the path shall decide`(
        choice: CongestionChoice, system: String, beginning: [String], far: String?
    ) {
        let plan = CongestionPlan(choice, system: system)
        #expect(plan.beginning == beginning && plan.far == far)
    }

    @Test(arguments: [
        (CongestionChoice.auto, "cubic", 40 as Int?, nil as String?), (.auto, "cubic", 999, nil),
        (.auto, "cubic", 1_000, "bbr"), (.auto, "reno", 1_000, "bbr"), (.auto, "cubic", 80_000, "bbr"),
        // Nothing is known: as if nobody had chosen.
        (.auto, "cubic", nil, "bbr"),
        // The route of this connection asks for another one, or the socket could not be given ours.
        (.auto, "dctcp", 80_000, nil), (.auto, "bbr", 80_000, nil), (.auto, "", 80_000, nil),
        (.system, "bbr", 80_000, nil), (.named("cubic"), "cubic", 80_000, nil),
    ])
    func `a path of a millisecond and more gets what the operator has set`(
        choice: CongestionChoice, current: String, microseconds: Int?, change: String?
    ) {
        let plan = CongestionPlan(choice, system: "bbr")
        let roundTrip = microseconds.map { Duration.microseconds($0) }
        #expect(plan.change(from: current, roundTrip: roundTrip) == change)
    }

    @Test(arguments: [
        ("auto", CongestionChoice.auto as CongestionChoice?), ("system", .system), ("cubic", .named("cubic")),
        ("bbr2", .named("bbr2")), ("fifteen-letters", .named("fifteen-letters")),
        ("", nil), ("sixteen--letters", nil), ("two words", nil), ("ünlich", nil), ("new\nline", nil),
    ])
    func `a choice is read and written alike`(text: String, choice: CongestionChoice?) {
        #expect(CongestionChoice(text) == choice)
        if let choice { #expect("\(choice)" == text) }
    }
}
