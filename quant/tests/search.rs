//! Searches: plans within their budgets, judged by runs, whoever runs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitloupe_quant::eval::search::{Front, Limit, Space};
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::session::{Options, SearchOptions, SearchStage, Session};
use bitloupe_quant::terms::{Bits, Slot};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vit_tiny_hf")
}

/// A session over copies of the fixture's pictures, without any samples to be judged on.
fn session(dir: &Path, threads: usize) -> Session {
    let mut manifest = String::new();
    for i in 0..3 {
        let file = format!("{i}.png");
        std::fs::copy(fixture().join(format!("image{}.png", i % 2)), dir.join(&file)).unwrap();
        manifest.push_str(&format!("{{\"image\":\"{file}\"}}\n"));
    }
    std::fs::write(dir.join("samples.jsonl"), manifest).unwrap();
    let options = Options {
        calibration: Some(dir.to_owned()),
        threads: Some(threads),
        ..Options::new(ModelFiles::Path(fixture()))
    };
    Session::open(&options).unwrap()
}

fn options() -> SearchOptions {
    SearchOptions {
        asked: Some(Limit::AverageBits(4.0)),
        budgets: vec![3.0, 6.0],
        bits: [2, 4, 8].map(|bits| Bits::new(bits).unwrap()).to_vec(),
        time: Duration::from_hours(1),
        ..SearchOptions::default()
    }
}

fn search(session: &Session, options: &SearchOptions) -> Front {
    session.search(options, &Cancel::default(), |_| {}).unwrap()
}

/// What a front says, without its candidates.
fn said(front: &Front) -> Vec<String> {
    let one = |point: &bitloupe_quant::eval::search::Point| {
        format!("{:?} {} {:?} {:?}", point.limit, point.origin, point.figures, point.plan.layers)
    };
    front.points.iter().map(one).collect()
}

#[test]
fn plans_keep_their_budgets_and_do_not_depend_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 3);
    let mut fronts = 0;
    let front = session
        .search(&options(), &Cancel::default(), |step| {
            assert!(step.done <= step.total, "{step:?}");
            fronts += usize::from(step.front.is_some());
        })
        .unwrap();
    assert!(fronts >= 3, "the front was shown {fronts} times");
    // Three budgets at most, as one may be served by the plan of a smaller one; two were wished for.
    assert!((2..=3).contains(&front.points.len()), "{} points", front.points.len());
    assert_eq!(front.points[front.asked.unwrap()].limit, Limit::AverageBits(4.0));
    front.space.check("space").unwrap();
    let effort = front.effort.as_ref().unwrap();
    assert!(effort.is_whole() && !effort.cut_by_clock(), "{effort:?}");
    assert!(effort.methods.of > 0 && effort.exchanges.of > 0, "{effort:?}");
    assert_eq!(effort.scores.of, session.site_ids().len());
    for pair in front.points.windows(2) {
        assert!(pair[1].figures.loss <= pair[0].figures.loss);
        assert!(pair[0].limit.value() < pair[1].limit.value());
    }
    for point in &front.points {
        // As the session itself counts it.
        let budget = session.budget(&point.plan);
        assert!(point.limit.holds(&budget), "{:?} {budget:?}", point.limit);
        assert!((point.figures.samples, point.budget) == (1, budget));
        // A plan is whole: it is fitted, and says something about every site.
        let fitted = session.fit_plan(&point.plan).unwrap();
        assert_eq!(fitted.plan.layers, point.plan.layers);
        assert!(point.plan.missing_sites(&session.site_ids()).is_empty());
    }
    let one = self::session(dir.path(), 1);
    assert_eq!(said(&search(&one, &options())), said(&front));
    // It was never asked for samples to be judged on.
    assert!(session.samples().is_none());
    kept_and_solved(&front, dir.path());
}

/// A front comes back from its folder, and gives plans for other budgets.
fn kept_and_solved(front: &Front, dir: &Path) {
    let folder = dir.join("search");
    front.write(&folder).unwrap();
    let read = Front::read(&folder).unwrap();
    assert_eq!(said(&read), said(front));
    for limit in [Limit::AverageBits(3.4), Limit::WeightBytes(front.points[0].budget.weight_bytes + 100)] {
        let (a, b) = (front.solve(limit).unwrap(), read.solve(limit).unwrap());
        assert_eq!(a.plan.layers, b.plan.layers);
        assert!(limit.holds(&a.budget), "{limit} {:?}", a.budget);
    }
    assert!(front.solve(Limit::AverageBits(1.0)).unwrap_err().to_string().contains("the least is 2.0"));
}

#[test]
fn what_is_cancelled_gives_the_points_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2);
    let stopped_at = |stage: SearchStage| {
        let cancel = Cancel::default();
        let found = session.search(&options(), &cancel, |step| {
            if step.stage == stage && step.done > 0 {
                cancel.cancel();
            }
        });
        found.map_err(Box::new)
    };
    let early = stopped_at(SearchStage::Scoring).unwrap_err();
    assert!(early.is_cancelled(), "{early}");
    // The plan that was asked for is the first that is run; larger budgets are served by it too.
    let late = stopped_at(SearchStage::Improving).unwrap();
    assert!(late.points.iter().any(|point| point.limit == Limit::AverageBits(4.0)));
    let small = SearchOptions { asked: Some(Limit::AverageBits(1.5)), ..options() };
    let error = session.search(&small, &Cancel::default(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("1.5 average bits") && error.contains("larger budget"), "{error}");
}

#[test]
fn without_time_scores_are_estimates_and_budgets_of_all_kinds_hold() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2);
    let four = Bits::new(4).unwrap();
    let usual = session.budget(&session.method_plan("minmax", &MethodBits::new(four, four)).unwrap());
    let all = [Limit::WeightBytes(usual.weight_bytes), Limit::BitOperations(usual.bit_operations * 0.8)];
    for (at, asked) in all.into_iter().enumerate() {
        let options = SearchOptions { asked: Some(asked), time: Duration::ZERO, ..options() };
        let front = search(&session, &options);
        let point = &front.points[front.asked.unwrap()];
        assert!(asked.holds(&session.budget(&point.plan)), "{asked} {:?}", point.budget);
        assert!(point.figures.loss.is_finite());
        // Nothing but what was asked for is run, and that is said.
        let effort = front.effort.as_ref().unwrap();
        assert!(effort.cut_by_clock());
        assert_eq!((effort.scores.done, effort.methods.done, effort.exchanges.done), (0, 0, 0), "{effort:?}");
        assert_eq!((effort.fits.done, effort.rewrites.done, effort.plans.done), (0, 0, 1), "{effort:?}");
        assert!(effort.exchanges.of > 0 && effort.plans.of > 1);
        // Counting the calibration set is part of the first; the other one has what was counted then.
        let counted = (effort.calibration.done, effort.calibration.of);
        assert_eq!(counted, if at == 0 { (2, 3) } else { (0, 0) });
    }
}

/// Names of the layers of the groups of several sites.
fn tied(space: &Space) -> Vec<(Slot, Vec<String>)> {
    let several = space.groups.iter().filter(|group| group.sites.len() > 1);
    several
        .map(|group| {
            assert!(group.sites.iter().all(|site| site.slot == group.sites[0].slot));
            let last = |name: &str| name.rsplit("attention.").next().unwrap_or(name).to_owned();
            (group.sites[0].slot, group.sites.iter().map(|site| last(&site.layer)).collect())
        })
        .collect()
}

#[test]
fn projections_of_one_attention_share_their_choice() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2);
    let of = |tied: bool| {
        let bits = vec![Bits::new(4).unwrap()];
        let (budgets, asked) = (vec![4.0], None);
        search(&session, &SearchOptions { asked, budgets, bits, tied, time: Duration::ZERO })
    };
    let front = of(true);
    let found = tied(&front.space);
    let names: Vec<String> =
        found.iter().map(|(slot, names)| format!("{slot} {}", names.join(" "))).collect();
    let expected = |slot: &str| format!("{slot} query key value");
    for slot in ["input", "weight"] {
        assert!(names.contains(&expected(slot)), "{names:#?}");
    }
    // One choice: the same quantizer and numbers at the inputs, the same width and family at the weights.
    for group in front.space.groups.iter().filter(|group| group.sites.len() > 1) {
        for candidate in &group.candidates {
            let first = &candidate.params[0];
            assert!(candidate.params.iter().all(|params| params.scheme == first.scheme));
            if !group.is_weight() {
                assert!(candidate.params.iter().all(|params| params == first), "{}", group.name());
            }
        }
    }
    assert!(tied(&of(false).space).is_empty());
}
