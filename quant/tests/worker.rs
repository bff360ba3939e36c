//! The session behind its channels: what is kept between requests and between sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitloupe_quant::eval::sensitivity::By;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Figures, Kept, Plan, Snapshot};
use bitloupe_quant::session::Options;
use bitloupe_quant::session::messages::{Event, Job, ModelView, PartsOf, Request, SampleView, SetView};
use bitloupe_quant::session::worker::{SessionHandle, start};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A session on a small model with two pictures, its state in `dir`.
fn open(dir: &Path) -> (SessionHandle, Arc<ModelView>) {
    open_with(dir, 1)
}

/// The same with both pictures so many times in the set.
fn open_with(dir: &Path, times: usize) -> (SessionHandle, Arc<ModelView>) {
    let model = fixture("vit_tiny_hf");
    for picture in ["image0.png", "image1.png"] {
        std::fs::copy(model.join(picture), dir.join(picture)).unwrap();
    }
    let set = dir.join("samples.jsonl");
    let both = "{\"image\": \"image0.png\"}\n{\"image\": \"image1.png\"}\n";
    std::fs::write(&set, both.repeat(times)).unwrap();
    let options = Options {
        calibration: Some(set.clone()),
        samples: Some(set),
        threads: Some(2),
        ..Options::new(ModelFiles::Path(model))
    };
    let session = start(options, Some(dir.join("state")));
    let view = wait(&session, |event| match event {
        Event::Opened(view) => Some(Arc::clone(view)),
        _ => None,
    });
    (session, view)
}

/// Lets a session go and waits until it is gone.
fn end(session: SessionHandle) {
    let SessionHandle { requests, events } = session;
    drop(requests);
    while events.recv().is_ok() {}
}

/// The first event that is wanted; the ones before are dropped.
#[track_caller]
fn wait<T>(session: &SessionHandle, wanted: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = session.events.recv_timeout(Duration::from_mins(1)).expect("an answer");
        assert!(!matches!(event, Event::Failed { .. }), "{event:?}");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

#[track_caller]
fn show(session: &SessionHandle, generation: u64, plan: &Arc<Plan>) -> Arc<SampleView> {
    let plan = Arc::clone(plan);
    session.requests.send(Request::Show { generation, plan, sample: 0, text: None }).unwrap();
    wait(session, |event| match event {
        Event::Plan(view) => {
            assert_eq!(view.generation, generation);
            None
        }
        Event::Sample(view) => Some(Arc::clone(view)),
        _ => None,
    })
}

/// The figures of the set, and whether samples had to run for them.
#[track_caller]
fn evaluate(session: &SessionHandle, generation: u64, plan: &Arc<Plan>) -> (Arc<SetView>, bool) {
    session.requests.send(Request::Evaluate { generation, plan: Arc::clone(plan) }).unwrap();
    let ran = std::cell::Cell::new(false);
    let set = wait(session, |event| {
        ran.set(ran.get() || matches!(event, Event::Progress { job: Job::Evaluation, .. }));
        match event {
            Event::Set(set) if set.complete => Some(Arc::clone(set)),
            _ => None,
        }
    });
    (set, ran.get())
}

fn calibrate(session: &SessionHandle) {
    session.requests.send(Request::Calibrate).unwrap();
    wait(session, |event| matches!(event, Event::Calibrated { complete: true, .. }).then_some(()));
}

fn preset(view: &ModelView, name: &str) -> Arc<Plan> {
    let found = view.presets.iter().find(|(preset, _)| preset == name);
    Arc::clone(&found.unwrap().1)
}

#[test]
fn going_back_to_a_plan_runs_nothing_and_answers_the_new_request() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open(dir.path());
    calibrate(&session);
    let (a, b) = (preset(&view, "W8A8 minmax"), preset(&view, "W4A4 minmax"));
    let (first, other) = (show(&session, 1, &a), show(&session, 2, &b));
    assert_ne!(first.quantized, other.quantized);
    // The same plan, whether it is the same value or an equal one.
    for (generation, plan) in [(3, Arc::clone(&a)), (4, Arc::new(Plan::clone(&a)))] {
        let again = show(&session, generation, &plan);
        assert_eq!((again.generation, again.nodes_run), (generation, 0));
        assert_eq!(again.quantized, first.quantized);
        assert_eq!(again.full_precision, first.full_precision);
    }
    let (of_a, ran) = evaluate(&session, 5, &a);
    assert!(ran && evaluate(&session, 6, &b).1, "each for the first time");
    let (again, ran) = evaluate(&session, 7, &a);
    assert_eq!((again.generation, &again.per_sample, ran), (7, &of_a.per_sample, false));
    session.requests.send(Request::Quit).unwrap();
}

#[test]
fn grids_per_head_are_scored_once_a_site_is_looked_at_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open(dir.path());
    calibrate(&session);
    let plan = preset(&view, "W8A8 minmax");
    let mut sites = view.layers.iter().flat_map(|layer| &layer.sites);
    let site = sites.find(|site| site.role == bitloupe_quant::terms::Role::Key).unwrap().site.clone();
    session.requests.send(Request::Site { generation: 1, site, plan }).unwrap();
    let of_heads = |event: &Event| match event {
        Event::Site(detail) => {
            let by_head = detail.choices.iter().filter(|choice| choice.label.ends_with("per head"));
            Some(by_head.map(|choice| choice.sqnr_db.len()).collect::<Vec<_>>())
        }
        _ => None,
    };
    assert_eq!(wait(&session, of_heads), [0, 0]);
    assert!(wait(&session, of_heads).iter().all(|widths| *widths >= 7), "asked once, answered twice");
    end(session);
}

#[test]
fn an_evaluation_gives_way_to_another_plan_but_not_to_another_sample() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open_with(dir.path(), 1000);
    calibrate(&session);
    let (a, b) = (preset(&view, "W8A8 minmax"), preset(&view, "W4A4 minmax"));
    let begin = |generation: u64| {
        session.requests.send(Request::Evaluate { generation, plan: Arc::clone(&a) }).unwrap();
        wait(&session, |event| {
            matches!(event, Event::Progress { job: Job::Evaluation, done, total, .. } if done < total)
                .then_some(())
        });
    };
    begin(1);
    let other = Request::Show { generation: 2, plan: Arc::clone(&a), sample: 1, text: None };
    session.requests.send(other).unwrap();
    wait(&session, |event| {
        assert!(!matches!(event, Event::Cancelled { .. }), "{event:?}");
        matches!(event, Event::Set(set) if set.complete).then_some(())
    });
    // Another plan, as what is known of the first one would be an answer without a run.
    let c = preset(&view, "W6A6 minmax");
    session.requests.send(Request::Evaluate { generation: 3, plan: c }).unwrap();
    wait(&session, |event| matches!(event, Event::Progress { job: Job::Evaluation, .. }).then_some(()));
    session.requests.send(Request::Show { generation: 4, plan: b, sample: 0, text: None }).unwrap();
    wait(&session, |event| {
        assert!(
            !matches!(event, Event::Set(set) if set.complete && set.generation == 3),
            "it ran to its end"
        );
        matches!(event, Event::Cancelled { job: Job::Evaluation }).then_some(())
    });
    end(session);
}

#[test]
fn snapshots_and_the_plan_in_work_outlive_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open(dir.path());
    assert!(view.kept.is_empty() && view.recovered.is_none());
    let (snapshot, edited) = (preset(&view, "W4A4 minmax"), preset(&view, "W6A6 minmax"));
    let kept = Kept::new(
        vec![Snapshot { name: "narrow".into(), figures: Figures::default(), plan: snapshot }],
        None,
    );
    session.requests.send(Request::Keep { kept: kept.clone() }).unwrap();
    session.requests.send(Request::Journal { plan: Arc::clone(&edited) }).unwrap();
    // An export of the snapshot is no export of the plan that is edited.
    calibrate(&session);
    let plan = Arc::clone(&kept.snapshots[0].plan);
    session.requests.send(Request::Export { plan, folder: dir.path().join("out"), replace: false }).unwrap();
    wait(&session, |event| matches!(event, Event::Exported { .. }).then_some(()));
    // No `Quit`: a session that is gone all at once.
    end(session);
    let (session, view) = open(dir.path());
    assert_eq!(view.kept, kept);
    assert_eq!(view.recovered.as_ref(), Some(&edited));
    // Saved: the plan needs no journal, the snapshots stay.
    calibrate(&session);
    let path = dir.path().join("plan.json");
    std::fs::write(&path, "what somebody else has written").unwrap();
    session.requests.send(Request::Save { plan: edited, path: path.clone(), replace: false }).unwrap();
    let again = wait(&session, |event| match event {
        Event::Occupied { request, files } if *files == [path.clone()] => Some(request.clone()),
        _ => None,
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"what somebody else has written");
    session.requests.send(*again).unwrap();
    wait(&session, |event| matches!(event, Event::Saved { .. }).then_some(()));
    end(session);
    let (session, view) = open(dir.path());
    assert_eq!((&view.kept, &view.recovered), (&kept, &None));
    // What cannot be kept is said.
    let other = Arc::new(Plan::new(bitloupe_quant::plan::ModelRef::default()));
    let snapshots = vec![Snapshot { name: "other".into(), figures: Figures::default(), plan: other }];
    session.requests.send(Request::Keep { kept: Kept::new(snapshots, None) }).unwrap();
    let said = wait(&session, |event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    });
    assert!(said.contains("the snapshots are not kept"), "{said}");
}

/// The jobs that were told as stopped until a table of all sites came.
#[track_caller]
fn stopped_before_the_table(session: &SessionHandle, generation: u64) -> Vec<Job> {
    let stopped = std::cell::RefCell::new(Vec::new());
    wait(session, |event| match event {
        Event::Cancelled { job } => {
            stopped.borrow_mut().push(*job);
            None
        }
        Event::Sensitivity(view) if view.complete => {
            assert_eq!(view.generation, generation);
            Some(())
        }
        _ => None,
    });
    stopped.into_inner()
}

#[test]
fn a_measurement_that_gives_way_to_another_is_told_whether_it_ran_or_waited() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open(dir.path());
    calibrate(&session);
    let plan = preset(&view, "W4A4 minmax");
    let sweep = |generation| Request::Sweep { generation, plan: Arc::clone(&plan) };
    let search = |generation| Request::Search { generation, seconds: 600 };
    // One that waits behind another, and one that has begun or is about to.
    for first in [1, 11] {
        if first == 1 {
            session.requests.send(sweep(first)).unwrap();
        }
        session.requests.send(search(first + 1)).unwrap();
        session.requests.send(sweep(first + 2)).unwrap();
        let stopped = stopped_before_the_table(&session, first + 2);
        assert_eq!(stopped.iter().filter(|job| **job == Job::Search).count(), 1, "{stopped:?}");
    }
    // Stopped by hand, before it began or after.
    session.requests.send(search(20)).unwrap();
    session.requests.send(Request::Cancel).unwrap();
    wait(&session, |event| matches!(event, Event::Cancelled { job: Job::Search }).then_some(()));
    session.requests.send(Request::Quit).unwrap();
}

#[test]
fn another_budget_is_answered_beside_a_search_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _) = open(dir.path());
    let solve = |generation: u64, average_bits: f64| {
        session.requests.send(Request::Solve { generation, average_bits }).unwrap();
    };
    // Before there is anything to solve from, that is said.
    solve(1, 4.3);
    let said = wait(&session, |event| match event {
        Event::Warning { message } if message.contains("budgets") => Some(message.clone()),
        _ => None,
    });
    assert!(said.contains("nothing was found yet"), "{said}");
    calibrate(&session);
    session.requests.send(Request::Search { generation: 2, seconds: 1 }).unwrap();
    let effort = wait(&session, |event| match event {
        Event::Front(front) if front.doing.is_none() => Some(front.effort.clone()),
        _ => None,
    });
    assert!(effort.is_some_and(|effort| effort.plans.done > 0));
    // A search for an hour, and beside it the plan for a budget.
    session.requests.send(Request::Search { generation: 3, seconds: 3600 }).unwrap();
    wait(&session, |event| matches!(event, Event::Progress { job: Job::Search, .. }).then_some(()));
    solve(4, 4.3);
    let point = wait(&session, |event| match event {
        Event::Solved { generation: 4, point } => Some(Arc::clone(point)),
        Event::Front(front) => {
            assert!(front.doing.is_some(), "the search ended first");
            None
        }
        _ => None,
    });
    assert!(point.weight_bits <= 4.3 && point.activation_bits <= 4.3, "{point:?}");
    // A budget that no plan keeps does not end the search either.
    solve(5, 0.5);
    let said = wait(&session, |event| match event {
        Event::Warning { message } => Some(message.clone()),
        Event::Front(front) => {
            assert!(front.doing.is_some(), "the search ended first");
            None
        }
        _ => None,
    });
    assert!(said.contains("0.5 average bits"), "{said}");
    session.requests.send(Request::Cancel).unwrap();
    wait(&session, |event| matches!(event, Event::Cancelled { job: Job::Search }).then_some(()));
}

#[test]
fn the_whole_model_and_its_parts_are_looked_at_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let (session, view) = open(dir.path());
    calibrate(&session);
    let plan = preset(&view, &view.presets[1].0);
    session.requests.send(Request::Diagnose { generation: 1, plan: Arc::clone(&plan) }).unwrap();
    let of = PartsOf { by: By::Role, all_but: true, calibration: true };
    session.requests.send(Request::Parts { generation: 2, plan: Arc::clone(&plan), of }).unwrap();
    let (mut said, mut parts) = (None, None);
    while said.is_none() || parts.is_none() {
        let event = wait(&session, |event| match event {
            Event::Diagnosed { generation: 1, .. } | Event::Parts(_) => Some(event.clone()),
            _ => None,
        });
        match event {
            Event::Diagnosed { explanation, .. } => said = Some(explanation),
            Event::Parts(view) if view.complete => parts = Some(view),
            _ => {}
        }
    }
    let (said, parts) = (said.unwrap(), parts.unwrap());
    assert!(said.sentences[0].contains("sites are quantized"), "{:?}", said.sentences);
    assert!(parts.parts.len() > 2 && parts.of == of);
    assert!(parts.parts.iter().all(|part| part.all_but.is_some() && part.calibration.is_some()));
    assert!(parts.parts.iter().any(|part| part.name == "weight"));
}
