//! Searches in folders: scores to solve other budgets from, a list of the plans for programs, and the plans.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Effort, Figures, Front, Limit, Point, SearchError, Space};
use crate::export::write_atomic;
use crate::plan::Plan;

/// The name of the list of plans.
pub const FRONT_FILE: &str = "front.json";
/// The name of what other budgets are solved from.
pub const SCORES_FILE: &str = "scores.json";
/// Version of the format of scores.
const FORMAT: &str = "bitloupe-scores/1";
/// Largest file of scores in bytes: candidates of the largest models stay far below.
const MAX_BYTES: u64 = 1 << 30;
/// Points that are read at most.
const MOST_POINTS: usize = 1000;

/// A file of scores.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scores<S> {
    format: String,
    space: S,
    points: Vec<Kept>,
    asked: Option<usize>,
    /// Files of before say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effort: Option<Effort>,
}

/// What the figures of a point are: the task's own, against the truth (`miou` of masks); `agreement` with full precision where
/// there is no truth, under the same names.
fn metric(figures: &Figures) -> &'static str {
    if figures.truth.is_empty() {
        return "agreement";
    }
    let known = ["top1", "box_f1", "cosine", "similarity"];
    known.into_iter().find(|name| figures.truth.contains_key(*name)).unwrap_or("miou")
}

/// A point in it; its plan is a file of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    limit: Limit,
    origin: String,
    choices: Option<Vec<usize>>,
    plan: String,
    figures: Figures,
}

impl Front {
    /// The file name of a point's plan.
    pub fn plan_file(&self, at: usize) -> String {
        Self::file_of(self.points[at].limit)
    }

    /// The file name of the plan for a budget.
    pub fn file_of(limit: Limit) -> String {
        match limit {
            Limit::AverageBits(bits) => format!("plan-{bits}-bits.json"),
            Limit::WeightBytes(bytes) => format!("plan-{bytes}-bytes.json"),
            Limit::BitOperations(n) => format!("plan-{n:e}-bitops.json"),
        }
    }

    /// Writes every plan, the list of them and the scores into a folder, which is made if it is not there. Files of
    /// an earlier search are replaced one by one, the scores last.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, SearchError> {
        let failed = |path: &Path, source| SearchError::Io { path: path.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let mut written = Vec::new();
        for (at, point) in self.points.iter().enumerate() {
            let path = folder.join(self.plan_file(at));
            point.plan.write(&path)?;
            written.push(path);
        }
        let kept = |(at, point): (usize, &Point)| Kept {
            limit: point.limit,
            origin: point.origin.clone(),
            choices: point.choices.clone(),
            plan: self.plan_file(at),
            figures: point.figures.clone(),
        };
        let scores = Scores {
            format: FORMAT.to_owned(),
            space: &*self.space,
            points: self.points.iter().enumerate().map(kept).collect(),
            asked: self.asked,
            effort: self.effort.clone(),
        };
        let files = [
            (FRONT_FILE, serde_json::to_vec_pretty(&self.to_json())),
            (SCORES_FILE, serde_json::to_vec(&scores)),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            let mut text = text.map_err(|e| failed(&path, e.into()))?;
            text.push(b'\n');
            write_atomic(&path, |file| file.write_all(&text)).map_err(|e| failed(&path, e))?;
            written.push(path);
        }
        Ok(written)
    }

    /// The points for programs: `{"front": [{"average_bits", "weight_bytes", "bit_operations", …, "plan"}]}`.
    pub fn to_json(&self) -> Value {
        let one = |(at, point): (usize, &Point)| {
            let mut entry = Map::new();
            entry.insert("limit".into(), json!(point.limit));
            let budget = &point.budget;
            entry.insert(
                "average_bits".into(),
                json!({"weights": budget.average_weight_bits, "activations": budget.average_activation_bits}),
            );
            entry.insert("weight_bytes".into(), json!(budget.weight_bytes));
            entry.insert("bit_operations".into(), json!(budget.bit_operations));
            let figures = &point.figures;
            // Figures against the truth by their own names; without truth those against full precision.
            let named = if figures.truth.is_empty() { &figures.agreement } else { &figures.truth };
            entry.insert("metric".into(), json!(metric(figures)));
            entry.extend(named.iter().map(|(name, value)| (name.clone(), json!(value))));
            entry.insert("agreement".into(), json!(figures.agreement));
            entry.insert("loss".into(), json!(figures.loss));
            entry.insert("samples".into(), json!(figures.samples));
            entry.insert("origin".into(), json!(point.origin));
            entry.insert("plan".into(), json!(self.plan_file(at)));
            entry.insert("asked".into(), json!(self.asked == Some(at)));
            Value::Object(entry)
        };
        let mut all = json!({
            "model": self.space.model.name,
            "rewrites": self.space.rewrites.iter().map(|r| json!({"rewrite": r.rewrite, "layer": r.layer})).collect::<Vec<_>>(),
            "front": self.points.iter().enumerate().map(one).collect::<Vec<_>>(),
        });
        if let (Some(effort), Value::Object(fields)) = (&self.effort, &mut all) {
            let mut told = json!(effort);
            told["cut_by_clock"] = json!(effort.cut_by_clock());
            told["complete"] = json!(effort.is_whole());
            told["sentences"] = json!(effort.sentences());
            fields.insert("effort".into(), told);
        }
        all
    }

    /// Reads a folder strictly.
    pub fn read(folder: &Path) -> Result<Self, SearchError> {
        let path = folder.join(SCORES_FILE);
        let shown = path.display().to_string();
        let wrong = |reason: String| SearchError::File { path: shown.clone(), reason };
        let read: Scores<Space> = serde_json::from_slice(&bounded(&path)?).map_err(|e| {
            wrong(format!("{e}; expected the scores that `bitloupe search` writes, make the search again"))
        })?;
        if read.format != FORMAT {
            let found: String = read.format.chars().take(40).collect();
            return Err(wrong(format!("the format is `{found}`; this program reads `{FORMAT}`")));
        }
        read.space.check(&shown)?;
        if read.points.len() > MOST_POINTS || read.asked.is_some_and(|at| at >= read.points.len()) {
            return Err(wrong("it names points that it does not have; make the search again".to_owned()));
        }
        let space = Arc::new(read.space);
        let points = read.points.into_iter().map(|kept| {
            let plain = Path::new(&kept.plan).components().count() == 1
                && Path::new(&kept.plan).file_name().is_some_and(|name| name == kept.plan.as_str());
            if !plain {
                return Err(wrong(format!("`{:.80}` is no file of this folder", kept.plan)));
            }
            let fits = |choices: &Vec<usize>| {
                choices.len() == space.groups.len()
                    && choices.iter().zip(&space.groups).all(|(&c, group)| c < group.candidates.len())
            };
            if !kept.choices.as_ref().is_none_or(fits) {
                return Err(wrong(format!("{}: its choices are not those of the groups", kept.plan)));
            }
            kept.limit.check()?;
            let plan = folder.join(&kept.plan);
            let (shown, plan) = (plan.display().to_string(), Plan::read(&plan)?);
            plan.check_model(&shown, &space.model)?;
            // Figures are those of the scores: the file may have been evaluated since.
            Ok(Point::new(&space, kept.limit, kept.origin, kept.choices, plan, kept.figures))
        });
        let points = points.collect::<Result<Vec<_>, SearchError>>()?;
        Ok(Self { space, points, asked: read.asked, effort: read.effort })
    }
}

/// All of a regular file that is not too large.
fn bounded(path: &Path) -> Result<Vec<u8>, SearchError> {
    let failed = |source| SearchError::Io { path: path.display().to_string(), source };
    let wrong =
        |reason: &str| SearchError::File { path: path.display().to_string(), reason: reason.to_owned() };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(wrong("not a regular file; expected the scores of a search"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong("it is larger than the scores of any search"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Share;
    use super::super::example::{choices, space};
    use super::*;

    fn front() -> Front {
        let space = Arc::new(space());
        let figures = Figures { samples: 2, loss: 0.25, ..Figures::default() };
        let point = |bits: f64, at: usize| {
            let taken = choices(&space, at);
            let plan = space.plan(&taken);
            let limit = Limit::AverageBits(bits);
            Point::new(&space, limit, "search".to_owned(), Some(taken), plan, figures.clone())
        };
        let points = vec![point(2.0, 0), point(4.5, 1)];
        let effort = Effort { minutes: 2.5, scores: Share { done: 3, of: 5 }, ..Effort::default() };
        Front { space, points, asked: Some(1), effort: Some(effort) }
    }

    #[test]
    fn a_search_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/search");
        let written = front().write(&path).unwrap();
        assert_eq!(written.len(), 4);
        let read = Front::read(&path).unwrap();
        assert_eq!(read.space, front().space);
        assert_eq!((read.asked, &read.effort), (Some(1), &front().effort));
        for (a, b) in read.points.iter().zip(&front().points) {
            assert_eq!(
                (&a.plan, &a.choices, &a.figures, a.limit),
                (&b.plan, &b.choices, &b.figures, b.limit)
            );
            assert_eq!(a.budget, b.budget);
        }
        let listed: Value = serde_json::from_slice(&std::fs::read(path.join(FRONT_FILE)).unwrap()).unwrap();
        assert_eq!(listed["front"][1]["plan"], "plan-4.5-bits.json");
        assert_eq!(listed["front"][1]["average_bits"]["weights"], 4.0);
        assert_eq!(listed["front"][1]["asked"], true);
        // Figures without truth are the agreement, whatever their names.
        assert_eq!(listed["front"][1]["metric"], "agreement");
        assert_eq!(listed["effort"]["scores"], json!({"done": 3, "of": 5}));
        assert_eq!(listed["effort"]["cut_by_clock"], true);
        // Searches of before say nothing of it.
        let scores = std::fs::read_to_string(path.join(SCORES_FILE)).unwrap();
        let mut old: Value = serde_json::from_str(&scores).unwrap();
        old.as_object_mut().unwrap().remove("effort");
        std::fs::write(path.join(SCORES_FILE), old.to_string()).unwrap();
        assert_eq!(Front::read(&path).unwrap().effort, None);
        let plan = Plan::read(&path.join("plan-2-bits.json")).unwrap();
        assert_eq!(plan.metrics["calibration_loss"], 0.25);
    }

    #[test]
    fn hostile_scores_are_errors_that_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        front().write(folder.path()).unwrap();
        let path = folder.path().join(SCORES_FILE);
        let good = std::fs::read_to_string(&path).unwrap();
        let swap = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        let cases = [
            (String::new(), "EOF"),
            ("[".repeat(100_000), "invalid type"),
            (swap("bitloupe-scores/1", "bitloupe-scores/2"), "bitloupe-scores/2"),
            (swap("\"asked\":1", "\"asked\":2"), "points that it does not have"),
            (swap("plan-2-bits.json", "../plan-2-bits.json"), "no file of this folder"),
            (swap("plan-2-bits.json", "/etc/passwd"), "no file of this folder"),
            (swap("plan-2-bits.json", ".."), "no file of this folder"),
            (swap("\"choices\":[0,0", "\"choices\":[9,0"), "not those of the groups"),
            (swap("\"choices\":[0,0", "\"choices\":[0"), "not those of the groups"),
            (swap("\"macs\":320", "\"macs\":18446744073709551615"), "too large"),
            (swap("\"layer\":\"q\",\"macs\"", "\"layer\":\"x\",\"macs\""), "layer is missing"),
            (swap("\"layer\":\"q\",\"macs\"", "\"layer\":\"k\",\"macs\""), "comes twice"),
            (swap("\"sites\":[\"q:input\"", "\"sites\":[\"q\""), "no site"),
            (swap("\"sites\":[\"q:input\"", "\"sites\":[\"q:weight\""), "not all weights"),
            (swap("\"q:weight\"", "\"k:weight\""), "k:weight is in two groups"),
            (swap("\"candidates\":[{\"bits\":2", "\"candidates\":[{\"bits\":3"), "do not fit its sites"),
            (swap("\"loss\":0.1875", "\"loss\":-1"), "a loss of -1"),
            (swap("\"average-bits\":2.0", "\"average-bits\":-2.0"), "no budget"),
            (swap("\"space\":{", "\"space\":{\"extra\":1,"), "extra"),
        ];
        for (text, part) in cases {
            std::fs::write(&path, &text).unwrap();
            let error = Front::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        std::fs::write(&path, &good).unwrap();
        std::fs::remove_file(folder.path().join("plan-2-bits.json")).unwrap();
        assert!(Front::read(folder.path()).is_err());
        assert!(Front::read(&folder.path().join("none")).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Front::read(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    }
}
