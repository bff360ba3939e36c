//! Models whose pictures have sizes of their own: every sample runs at its size, under one plan and one calibration.

use std::path::{Path, PathBuf};

use bitloupe_quant::eval::answer::Answer;
use bitloupe_quant::exec::{Cancel, NoTap, Quantization, Value};
use bitloupe_quant::method::{MethodBits, Protocol};
use bitloupe_quant::models::{InputShapes, ModelFiles};
use bitloupe_quant::session::{FittedPlan, Options, Session};
use bitloupe_quant::terms::{Bits, Slot};

const MODELS: [&str; 3] = ["yolos_tiny", "yolos_mid_tiny", "detr_tiny_hf"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Three pictures: landscape, portrait, and the first one turned, which has as many patches in another grid.
fn pictures(dir: &Path) -> Vec<PathBuf> {
    let load = |name: &str| image::open(fixture("yolos_tiny").join(name)).unwrap();
    let (first, second) = (load("image0.png"), load("image1.png"));
    let turned = first.rotate90();
    let mut paths = Vec::new();
    for (i, picture) in [first, second, turned].iter().enumerate() {
        let path = dir.join(format!("{i}.png"));
        picture.save(&path).unwrap();
        paths.push(path);
    }
    paths
}

/// A folder of its own for a set of pictures.
fn set(dir: &Path, name: &str, pictures: &[PathBuf]) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    for picture in pictures {
        std::fs::copy(picture, folder.join(picture.file_name().unwrap())).unwrap();
    }
    folder
}

fn open(model: &str, set: &Path, shapes: InputShapes) -> Session {
    let (calibration, samples) = (Some(set.to_owned()), Some(set.to_owned()));
    let files = ModelFiles::Path(fixture(model));
    Session::open(&Options { calibration, samples, threads: Some(2), shapes, ..Options::new(files) }).unwrap()
}

/// The inputs of a sample, and a session for the size of that sample alone.
fn alone(model: &str, set: &Path, session: &Session, sample: usize) -> (Vec<Value>, Session) {
    let inputs = session.inputs(session.samples().unwrap(), sample).unwrap();
    let graph = &session.model().graph;
    let named = graph.inputs().iter().map(|&id| graph.node(id).name.clone());
    let shapes = named.zip(inputs.iter().map(|value| value.shape().to_vec())).collect();
    (inputs, open(model, set, shapes))
}

fn outputs(session: &Session, inputs: &[Value]) -> Vec<Value> {
    let none = Quantization::none(&session.model().graph);
    session.engine().run(inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap().outputs
}

fn fitted(session: &Session, method: &str) -> FittedPlan {
    let plan = session.method_plan(method, &MethodBits::new(Bits::new(5).unwrap(), Bits::EIGHT)).unwrap();
    session.fit_plan(&plan).unwrap()
}

fn shown(session: &Session, sample: usize, plan: &FittedPlan) -> [Answer; 2] {
    let view = session.show(1, sample, None, plan, &Cancel::default()).unwrap();
    [view.full_precision, view.quantized]
}

#[test]
fn every_picture_runs_at_its_published_size() {
    let dir = tempfile::tempdir().unwrap();
    let set = set(dir.path(), "set", &pictures(dir.path()));
    for model in MODELS {
        let session = open(model, &set, InputShapes::default());
        let preprocessor = session.model().preprocessor.as_ref().unwrap();
        let mut sizes = Vec::new();
        for (sample, (width, height)) in [(60, 50), (40, 70), (50, 60)].into_iter().enumerate() {
            let (inputs, single) = alone(model, &set, &session, sample);
            // The whole picture, nothing else: as `preprocessor_config.json` says.
            let geometry = preprocessor.geometry(width, height);
            assert_eq!(geometry.output, geometry.resized);
            let (w, h) = (geometry.resized.0 as usize, geometry.resized.1 as usize);
            assert_eq!(inputs[0].shape(), [1, 3, h, w], "{model} {sample}");
            assert!(inputs.iter().skip(1).all(|mask| mask.as_slice().iter().all(|x| *x == 1.0)));
            sizes.push((h, w));
            assert_eq!(single.model().graph.node(single.model().graph.inputs()[0]).shape, [1, 3, h, w]);
            for (ours, theirs) in outputs(&session, &inputs).iter().zip(outputs(&single, &inputs)) {
                assert_eq!((ours.shape(), ours.as_slice()), (theirs.shape(), theirs.as_slice()), "{model}");
            }
            // Plans and statistics are for all sizes.
            assert_eq!(session.model().fingerprint, single.model().fingerprint, "{model}");
            assert_eq!(session.site_ids(), single.site_ids());
        }
        // Also where no mask is given, as `run` may.
        let shapes = [("pixel_values", vec![1, 3, sizes[0].0, sizes[0].1])].into_iter().collect();
        assert_eq!(session.model().fingerprint, open(model, &set, shapes).model().fingerprint, "{model}");
        assert!(sizes[0] != sizes[1] && sizes[2] == (sizes[0].1, sizes[0].0), "{model}: {sizes:?}");
    }
}

#[test]
fn sketches_hold_the_values_of_all_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = pictures(dir.path());
    for model in MODELS {
        let gather = |name: String, pictures: &[PathBuf]| {
            let session = open(model, &set(dir.path(), &name, pictures), InputShapes::default());
            let known = session.gather(None, &Cancel::default(), |_, _| {}).unwrap();
            (session, known)
        };
        let (session, all) = gather(format!("{model}-all"), &pictures);
        let apart: Vec<_> =
            (0..3).map(|i| gather(format!("{model}-{i}"), &pictures[i..=i]).1.sketches).collect();
        for (at, site) in session.model().graph.sites().iter().enumerate() {
            if site.id.slot == Slot::Weight {
                continue;
            }
            let of = |sketches: &Vec<Option<_>>| std::sync::Arc::clone(sketches[at].as_ref().unwrap());
            let mut merged = of(&apart[0]).as_ref().clone();
            apart[1..].iter().for_each(|part| merged.merge(&of(part)).unwrap());
            let ours = of(&all.sketches);
            assert_eq!(ours.buckets(), merged.buckets(), "{model} {}", site.id);
            let ranges = |sketch: &bitloupe_quant::stats::Sketch| {
                sketch.channel_stats().iter().map(|c| (c.min, c.max)).collect::<Vec<_>>()
            };
            assert_eq!(ranges(&ours), ranges(&merged), "{model} {}", site.id);
        }
    }
}

#[test]
fn plans_and_their_rewrites_hold_for_all_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let set = set(dir.path(), "set", &pictures(dir.path()));
    for model in MODELS {
        let session = open(model, &set, InputShapes::default());
        session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
        let plan = fitted(&session, "repq-vit");
        assert!(!plan.plan.rewrites.is_empty(), "{model}");
        // Back and forth, so that runs start from those of other sizes.
        for sample in [0, 1, 2, 0, 2] {
            let (_, single) = alone(model, &set, &session, sample);
            single.set_stats(session.stats().unwrap().as_ref().clone());
            let again = single.fit_plan(&plan.plan).unwrap();
            assert_eq!(shown(&session, sample, &plan), shown(&single, sample, &again), "{model} {sample}");
        }
    }
}

#[test]
fn edits_start_from_runs_of_their_own_size() {
    let dir = tempfile::tempdir().unwrap();
    let set = set(dir.path(), "set", &pictures(dir.path()));
    for model in MODELS {
        let session = open(model, &set, InputShapes::default());
        let none = Cancel::default();
        session.calibrate(&none, |_, _| {}).unwrap();
        for method in ["minmax", "repq-vit", "minmax"] {
            let plan = fitted(&session, method);
            let whole = session.evaluate(&plan, &none, |_, _, _| {}).unwrap();
            let edited = session.evaluate_edited(&plan, &none, |_, _, _| {}).unwrap();
            assert_eq!((whole.samples, whole.per_sample), (3, edited.per_sample), "{model} {method}");
        }
    }
}

#[test]
fn fits_on_samples_take_those_of_the_most_frequent_size() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = pictures(dir.path());
    let mixed = [1, 0, 2].map(|i| pictures[i].clone());
    let (mut many, mut few) = (mixed.to_vec(), Vec::new());
    // Two landscapes of one size, with other pixels.
    let other = dir.path().join("other.png");
    image::open(&pictures[0]).unwrap().fliph().save(&other).unwrap();
    many.push(other.clone());
    few.extend([pictures[0].clone(), other]);
    let (many, few) = (set(dir.path(), "many", &many), set(dir.path(), "few", &few));
    let (session, same) =
        (open("yolos_tiny", &many, InputShapes::default()), open("yolos_tiny", &few, InputShapes::default()));
    for session in [&session, &same] {
        session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    }
    // The second looks at gradients, and at heads of their own.
    for method in ["minmax", "ptq4vit"] {
        let fit = |session: &Session| {
            let bits = MethodBits::new(Bits::new(4).unwrap(), Bits::new(4).unwrap());
            let plan = session.method_plan(method, &bits).unwrap();
            session.fit_plan_on_samples(&plan, Protocol::Parallel, &Cancel::default(), |_, _| {}).unwrap()
        };
        assert_eq!(fit(&session).params, fit(&same).params, "{method}");
    }
}

#[test]
fn a_picture_that_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let thin = dir.path().join("thin.png");
    image::RgbImage::new(600, 2).save(&thin).unwrap();
    let folder = set(dir.path(), "set", &[thin]);
    for model in ["yolos_tiny", "detr_tiny_hf"] {
        let session = open(model, &folder, InputShapes::default());
        let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("thin.png"), "{model}: {error}");
    }
}

#[test]
fn inputs_whose_sizes_contradict_each_other_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let set = set(dir.path(), "set", &pictures(dir.path()));
    let session = open("detr_tiny_hf", &set, InputShapes::default());
    let inputs = [
        Value::new(vec![1, 3, 64, 64], vec![0.5; 3 * 64 * 64]),
        Value::new(vec![1, 32, 64], vec![1.0; 32 * 64]),
    ];
    let none = Quantization::none(&session.model().graph);
    let error = session.engine().run(&inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("pixel_mask"), "{error}");
}
