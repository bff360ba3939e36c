//! Writing what was decided: plan, quantized weights, report.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Evaluation, FittedPlan, Session, SessionError};
use crate::export::weights::{Entry, Grid, Payload, affine_codes, level_codes, write_weights};
use crate::export::{ExportError, write_atomic};
use crate::graph::{Graph, Op, ParamId};
use crate::plan::Plan;
use crate::quantizer::{Family, Params, quantizer};
use crate::terms::Slot;

const PLAN: &str = "plan.json";
const WEIGHTS: &str = "weights.safetensors";
const REPORT: &str = "report.md";

/// Which files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// `plan.json`.
    pub plan: bool,
    /// `weights.safetensors`.
    pub weights: bool,
    /// `report.md`.
    pub report: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { plan: true, weights: true, report: true };

    /// The files that these parts are in a folder.
    pub fn files(self, folder: &Path) -> Vec<PathBuf> {
        let names = [(self.plan, PLAN), (self.weights, WEIGHTS), (self.report, REPORT)];
        names.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| folder.join(name)).collect()
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The files.
    pub files: Vec<PathBuf>,
}

impl Session {
    /// Writes the parts of a fitted plan into `folder`, which is made if it is not there. Each file replaces an older
    /// one at once.
    pub fn export(
        &self,
        fitted: &FittedPlan,
        evaluation: Option<&Evaluation>,
        folder: &Path,
        parts: Parts,
    ) -> Result<Exported, SessionError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| ExportError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let plan = with_metrics(&fitted.plan, evaluation);
        let mut files = Vec::new();
        if parts.plan {
            let path = folder.join(PLAN);
            plan.write(&path)?;
            files.push(path);
        }
        if parts.weights {
            let path = folder.join(WEIGHTS);
            write_weights(&path, Self::weight_entries(fitted)?).map_err(ExportError::from)?;
            files.push(path);
        }
        if parts.report {
            let path = folder.join(REPORT);
            let text = crate::export::report::write(&crate::export::report::Report {
                session: self,
                plan: &plan,
                fitted,
                evaluation,
            });
            write_atomic(&path, |file| std::io::Write::write_all(file, text.as_bytes()))
                .map_err(io(&path))?;
            files.push(path);
        }
        Ok(Exported { files })
    }

    /// Every tensor of the checkpoint: codes where the plan quantizes a weight, values elsewhere.
    fn weight_entries(fitted: &FittedPlan) -> Result<Vec<Entry<'_>>, SessionError> {
        let graph = fitted.variant.graph();
        let mut quantized: HashMap<ParamId, (usize, &Params)> = HashMap::new();
        for (index, (site, params)) in graph.sites().iter().zip(&fitted.params).enumerate() {
            if site.id.slot == Slot::Weight
                && let Some(params) = params
                && let Op::Linear { weight, .. } | Op::Conv { weight, .. } | Op::ConvTranspose { weight, .. } =
                    &graph.node(site.node).op
            {
                quantized.insert(*weight, (index, params));
            }
        }
        let tables: HashSet<ParamId> = graph
            .nodes()
            .iter()
            .filter_map(|node| if let Op::Embedding { table } = node.op { Some(table) } else { None })
            .collect();
        let mut entries = Vec::with_capacity(graph.params().len());
        for (id, param) in graph.params().iter().enumerate() {
            let id = ParamId(id as u32);
            let float = || Payload::Float(Cow::Borrowed(&param.data));
            let (name, payload) = match quantized.get(&id) {
                // A layer that is tied to a table of words: the table stays, the layer gets a weight of its own.
                Some(&(site, params)) if tables.contains(&id) => {
                    let (name, shape) = (param.name.clone(), param.shape.clone());
                    entries.push(Entry { name, shape, payload: float() });
                    (format!("{}.weight", graph.sites()[site].id.layer), codes(graph, site, params)?)
                }
                Some(&(site, params)) => (param.name.clone(), codes(graph, site, params)?),
                None => (param.name.clone(), float()),
            };
            entries.push(Entry { name, shape: param.shape.clone(), payload });
        }
        Ok(entries)
    }
}

/// The codes of one weight; the reader gets exactly the values that the quantized model computed with.
fn codes(graph: &Graph, index: usize, params: &Params) -> Result<Payload<'static>, SessionError> {
    let site = &graph.sites()[index];
    let failed = |reason: &str| {
        SessionError::Export(ExportError::Tensor { tensor: site.id.to_string(), reason: reason.to_owned() })
    };
    let param = graph.weight_of(site.node).ok_or_else(|| failed("the layer has no weight"))?;
    let mut values = param.data.to_vec();
    let layout = site.layout_of(params.scheme.granularity);
    params.check(layout).map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?;
    quantizer(params.scheme.family).fake_quantize(&mut values, layout, params);
    let axis = site.axis.and_then(|axis| usize::try_from(axis).ok()).unwrap_or(0);
    let affine = Grid::Affine { scale: params.scale.clone(), zero_point: params.zero_point.clone() };
    let coded = match params.scheme.family {
        Family::Uniform => {
            affine_codes(&values, site.layout, params.bits, &affine).map(|codes| (codes, affine))
        }
        _ => None,
    };
    // Grids that are not affine are written as the table of their levels.
    let (codes, grid) = coded
        .or_else(|| level_codes(&values, site.layout, params.bits))
        .ok_or_else(|| failed("its values do not lie on a grid of its bits"))?;
    let scheme = params.scheme.to_string();
    Ok(Payload::Codes { bits: params.bits, codes: Cow::Owned(codes), grid, axis, scheme })
}

/// The plan with the figures of an evaluation.
fn with_metrics(plan: &Plan, evaluation: Option<&Evaluation>) -> Plan {
    let mut plan = plan.clone();
    if let Some(e) = evaluation {
        plan.metrics.clear();
        plan.metrics.insert("samples".into(), e.samples as f64);
        let groups =
            [("", &e.quantized), ("full_precision_", &e.full_precision), ("agreement_", &e.agreement)];
        for (prefix, scores) in groups {
            for (name, value) in scores.iter().flat_map(crate::eval::metrics::Scores::named) {
                plan.metrics.insert(format!("{prefix}{name}"), *value);
            }
        }
    }
    plan
}
