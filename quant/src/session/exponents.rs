//! The exponent of each site's error, chosen by the loss of the model's results.

use std::sync::Arc;

use super::{FittedPlan, Session, SessionError};
use crate::eval::output_loss::between_outputs;
use crate::exec::{ActivationCache, Cancel, NoTap, Quantization, Value};
use crate::method::EXPONENTS;
use crate::plan::{Plan, SitePlan};
use crate::quantizer::{Params, RangeSearch, Scheme};

/// Calibration samples that the loss is measured on.
const SAMPLES: usize = 4;
/// Memory for values between the runs; what an exponent does not reach is not computed again.
const CACHE_BYTES: usize = 512 << 20;

/// Outputs of every sample by name.
type Results = Vec<Vec<(String, Value)>>;

impl Session {
    /// Chooses for every site whose range is that of least `|error|^p`, in execution order, the `p` among
    /// [`EXPONENTS`] that brings the results of the model closest to full precision, sites before it quantized as
    /// decided, later ones not yet (adaptive Lp of DetPTQ; the first of equals wins). Then fits what is left.
    pub fn fit_plan_by_output(
        &self,
        plan: &Plan,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize) + Send,
    ) -> Result<FittedPlan, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let mut made = self.fit_rewrites(plan)?.into_owned();
        let variant = self.variant(&made.rewrites)?;
        let graph = variant.graph();
        let samples = (0..set.len().min(SAMPLES))
            .map(|i| Ok(self.sample_inputs(set, i, None)?.values))
            .collect::<Result<Vec<Vec<Value>>, SessionError>>()?;
        let cache = ActivationCache::new(CACHE_BYTES);
        let results = |params: &[Option<Arc<Params>>]| -> Result<Results, SessionError> {
            let quantization = Quantization::new(&variant.engine, params)?;
            let run = |inputs: &Vec<Value>| {
                let run = variant.engine.run(inputs, &quantization, Some(&cache), &mut NoTap, cancel)?;
                Ok(graph.outputs().iter().map(|(name, _)| name.clone()).zip(run.outputs).collect())
            };
            samples.iter().map(run).collect()
        };
        let mut params: Vec<Option<Arc<Params>>> = vec![None; graph.sites().len()];
        self.pool.install(|| -> Result<(), SessionError> {
            let reference = results(&params)?;
            let task = &self.model.task;
            let total = graph.sites().len();
            for (index, site) in graph.sites().iter().enumerate() {
                progress(index, total);
                let (scheme, bits) = match made.site(&site.id) {
                    Some(SitePlan::Quantized { params: Some(known), .. }) => {
                        params[index] = Some(Arc::new(known.clone()));
                        continue;
                    }
                    Some(SitePlan::Quantized { scheme, bits, params: None }) => (scheme.clone(), *bits),
                    Some(SitePlan::Float) | None => continue,
                };
                let candidates: Vec<Scheme> = if matches!(scheme.range, RangeSearch::Mse { .. }) {
                    let with = |&p: &f64| Scheme { range: RangeSearch::Mse { p }, ..scheme.clone() };
                    EXPONENTS.iter().map(with).collect()
                } else {
                    vec![scheme]
                };
                let mut best: Option<(f64, Arc<Params>)> = None;
                for candidate in &candidates {
                    let fit = self.fit_site_in(&variant, index, candidate, bits)?;
                    params[index] = Some(Arc::clone(&fit.params));
                    let score = if candidates.len() == 1 {
                        0.0
                    } else {
                        let found = results(&params)?;
                        reference.iter().zip(&found).map(|(a, b)| between_outputs(task, a, b)).sum()
                    };
                    if best.as_ref().is_none_or(|(least, _)| score < *least) {
                        best = Some((score, Arc::clone(&fit.params)));
                    }
                }
                params[index] = best.map(|(_, params)| params);
                if let Some(chosen) = &params[index] {
                    made.set(&site.id, Some(SitePlan::fitted(chosen.as_ref().clone())));
                }
            }
            progress(total, total);
            Ok(())
        })?;
        self.fit_plan(&made)
    }
}
