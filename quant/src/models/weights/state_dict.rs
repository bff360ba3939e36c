//! Which tensors of a torch checkpoint are weights, and what they are called.
//!
//! Training scripts save more than the weights: `{'model': …, 'optimizer': …, 'epoch': …, 'args': Namespace(…)}`. The
//! dict that holds the weights gives its names as they are; a second dict of weights beside it (LAVT's `bert_model`)
//! gives its names under its key.

use std::collections::HashSet;

use super::PARALLEL;
use super::pickle::{Object, Pickle, Tensor, Value};

/// Keys under which training scripts save the weights, in the order they are looked for.
const WRAPPERS: [&str; 6] = ["state_dict", "model", "module", "model_state_dict", "model_state", "net"];
/// Beginnings of keys of what is needed to go on training, even where it holds tensors.
const TRAINING: [&str; 7] = ["optim", "lr_scheduler", "scheduler", "scaler", "amp", "rng", "random"];
/// How many wrappers may lie inside each other.
const MAX_DEPTH: usize = 4;

/// Names and tensors of a checkpoint's weights, in the order of the file. A name may appear twice.
pub(super) fn tensors<'p>(pickle: &'p Pickle<'_>) -> Result<Vec<(String, &'p Tensor)>, String> {
    if let Some(Object::Opaque(module, name)) = pickle.object(pickle.root()) {
        return Err(format!(
            "it holds an object of the Python class `{module}.{name}`, which only its own code can read, instead \
             of a dict of tensors"
        ));
    }
    let mut found = Vec::new();
    let mut beside = Vec::new();
    let mut at = pickle.root();
    for _ in 0..MAX_DEPTH {
        let Some(dict) = pickle.dict(at) else { break };
        let wrapped =
            WRAPPERS.iter().find_map(|&wrapper| Some((wrapper, dict_under(pickle, dict, wrapper)?)));
        beside.extend(dict.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, value))).filter(
            |(key, _)| {
                wrapped.is_none_or(|(wrapper, _)| *key != wrapper)
                    && !TRAINING.iter().any(|start| key.starts_with(start))
            },
        ));
        let Some((_, inner)) = wrapped else {
            found = direct(pickle, at);
            break;
        };
        at = inner;
    }
    // A further dict with the same names is a copy of the weights (a moving average, the best so far).
    let names: HashSet<String> = found.iter().map(|(name, _)| name.clone()).collect();
    for (key, value) in beside {
        let further = direct(pickle, value);
        if further.is_empty() || further.iter().any(|(name, _)| names.contains(name)) {
            continue;
        }
        found.extend(further.into_iter().map(|(name, tensor)| (format!("{key}.{name}"), tensor)));
    }
    if found.is_empty() {
        return Err("it holds no dict of tensors".to_owned());
    }
    Ok(found)
}

/// The dict under a key.
fn dict_under(pickle: &Pickle<'_>, dict: &[(Value, Value)], wanted: &str) -> Option<Value> {
    let (_, value) = dict.iter().rev().find(|(key, _)| pickle.text(*key) == Some(wanted))?;
    pickle.dict(*value).map(|_| *value)
}

/// The tensors that are values of a dict, without DataParallel's prefix.
fn direct<'p>(pickle: &'p Pickle<'_>, dict: Value) -> Vec<(String, &'p Tensor)> {
    let items = pickle.dict(dict).unwrap_or_default();
    let named: Vec<_> =
        items.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, pickle.tensor(value)?))).collect();
    let parallel = named.iter().all(|(name, _)| name.starts_with(PARALLEL));
    let skip = if parallel { PARALLEL.len() } else { 0 };
    named.into_iter().map(|(name, tensor)| (name[skip..].to_owned(), tensor)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::pickle;
    use super::super::testing::Pickler;
    use super::*;

    fn names(bytes: &[u8]) -> Result<Vec<String>, String> {
        let pickle = pickle::read(bytes)?;
        Ok(tensors(&pickle)?.into_iter().map(|(name, _)| name).collect())
    }

    /// A dict of tensors with these names.
    fn dict(p: Pickler, names: &[&str]) -> Pickler {
        let p = names
            .iter()
            .fold(p.raw(b"}("), |p, name| p.text(name).tensor(("FloatStorage", "0", 1), 0, &[1], &[1]));
        p.raw(b"u")
    }

    #[test]
    fn wrappers_are_taken_off_and_training_state_is_left_out() {
        let p = Pickler::new().raw(b"}(").text("epoch").int(3).text("optimizer");
        let p = dict(p, &["exp_avg"]).text("args").global("argparse", "Namespace").raw(b")\x81}b");
        let p = dict(p.text("rng_state"), &["cpu"]).text("model");
        let plain = dict(p, &["a.weight", "a.bias"]).raw(b"u").stop();
        assert_eq!(names(&plain).unwrap(), ["a.weight", "a.bias"]);
        let bare = dict(Pickler::new(), &["a", "b"]).stop();
        assert_eq!(names(&bare).unwrap(), ["a", "b"]);
        // One wrapper in another.
        let p = Pickler::new().raw(b"}(").text("state_dict").raw(b"}(").text("model");
        assert_eq!(names(&dict(p, &["a"]).raw(b"uu").stop()).unwrap(), ["a"]);
    }

    #[test]
    fn a_second_dict_goes_by_its_key_and_a_copy_is_left_out() {
        let p = dict(Pickler::new().raw(b"}(").text("model"), &["a.weight"]);
        let p = dict(p.text("bert_model"), &["b.weight"]);
        let p = dict(p.text("model_ema"), &["a.weight"]).raw(b"u").stop();
        assert_eq!(names(&p).unwrap(), ["a.weight", "bert_model.b.weight"]);
    }

    #[test]
    fn the_prefix_of_data_parallel_goes_only_if_all_have_it() {
        let all = dict(Pickler::new(), &["module.a", "module.b"]).stop();
        assert_eq!(names(&all).unwrap(), ["a", "b"]);
        let some = dict(Pickler::new(), &["module.a", "b"]).stop();
        assert_eq!(names(&some).unwrap(), ["module.a", "b"]);
    }

    #[test]
    fn what_holds_no_dict_of_tensors_is_refused() {
        let module = Pickler::new().global("lavt.model", "LAVT").raw(b")\x81}b").stop();
        assert!(names(&module).unwrap_err().contains("`lavt.model.LAVT`"));
        for other in
            [Pickler::new().int(1).stop(), Pickler::new().raw(b"}").text("a").int(1).raw(b"s").stop()]
        {
            assert!(names(&other).unwrap_err().contains("no dict of tensors"));
        }
        // A dict that is wrapped in itself.
        let looped = Pickler::new().raw(b"}q\0").text("model").raw(b"h\0s").stop();
        assert!(names(&looped).unwrap_err().contains("no dict of tensors"));
    }
}
