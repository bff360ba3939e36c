//! Parameters for sites and whole plans, from sketches (activations) and raw values (weights).

use std::collections::HashMap;
use std::sync::Arc;

use super::variant::Variant;
use super::{Session, SessionError, lock};
use crate::exec::Quantization;
use crate::plan::{Budget, CalibrationRef, LayerCost, Plan, SitePlan, budget};
use crate::quantizer::{
    Distribution, Family, Granularity, Params, Prediction, QuantizerError, Scheme, Survey, predict,
    predict_surveyed, quantizer,
};
use crate::stats::Sketch;
use crate::terms::{Bits, SiteId, Slot};

/// What was fitted already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FitKey {
    site: usize,
    scheme: Scheme,
    bits: Bits,
    /// Weights do not depend on the calibration.
    pub(super) weight: bool,
    /// Which rewrites changed its values; 0 for none.
    variant: u64,
}

impl FitKey {
    fn new(variant: &Variant, site: usize, scheme: &Scheme, bits: Bits) -> Self {
        let weight = variant.graph().sites()[site].id.slot == Slot::Weight;
        Self { site, scheme: scheme.clone(), bits, weight, variant: variant.site_identity(site) }
    }
}

/// Fitted parameters and what they promise.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The parameters.
    pub params: Arc<Params>,
    /// Error predicted from the sketch.
    pub prediction: Prediction,
}

/// A plan with all parameters, ready to run.
#[derive(Debug, Clone)]
pub struct FittedPlan {
    /// The plan; every quantized site has its parameters.
    pub plan: Arc<Plan>,
    /// Parameters by site.
    pub params: Vec<Option<Arc<Params>>>,
    /// Predicted SQNR in dB of every quantized site whose sketch is known.
    pub predicted_sqnr_db: Vec<(SiteId, f64)>,
    /// The model after the plan's rewrites.
    pub(super) variant: Arc<Variant>,
}

/// Parameters, and the predicted SQNR in dB where a sketch is there.
type Known = (Arc<Params>, Option<f64>);

/// By site: the parameters that the last plan brought, and which rewrites its values were under.
pub(super) type Given = HashMap<usize, (u64, Known)>;

/// What was made ready for running last.
#[derive(Debug)]
pub(super) struct Ready {
    variant: Arc<Variant>,
    params: Vec<Option<Arc<Params>>>,
    quantization: Quantization,
}

impl Session {
    /// Fits one site of the model as it was opened.
    pub fn fit_site(&self, index: usize, scheme: &Scheme, bits: Bits) -> Result<Arc<Fit>, SessionError> {
        self.fit_site_in(&self.base, index, scheme, bits)
    }

    /// Fits one site after rewrites.
    pub(super) fn fit_site_in(
        &self,
        variant: &Variant,
        index: usize,
        scheme: &Scheme,
        bits: Bits,
    ) -> Result<Arc<Fit>, SessionError> {
        let site = &variant.graph().sites()[index];
        let key = FitKey::new(variant, index, scheme, bits);
        let weight = key.weight;
        if let Some(found) = lock(&self.fits).get(&key) {
            return Ok(Arc::clone(found));
        }
        let Some(sketch) = self.sketch_of(variant, index, scheme.granularity)? else {
            return Err(SessionError::NotCalibrated { site: site.id.to_string() });
        };
        check_fits(scheme.family, &sketch)
            .map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?;
        let survey = Survey::new(&sketch);
        let data = match variant.graph().weight_of(site.node) {
            Some(param) if weight => {
                Distribution::Raw { values: &param.data, layout: site.layout_of(scheme.granularity) }
            }
            _ => Distribution::Survey(&survey),
        };
        let failed = |source: QuantizerError| SessionError::Fit { site: site.id.to_string(), source };
        // Without heads there is one grid.
        let shared = Scheme { granularity: Granularity::Tensor, ..scheme.clone() };
        let has_heads = site.heads.is_some() || scheme.granularity != Granularity::Head;
        let fitted_as = if has_heads { scheme } else { &shared };
        let mut params = quantizer(scheme.family).fit(&data, fitted_as, bits).map_err(failed)?;
        params.scheme.granularity = scheme.granularity;
        let prediction = predict_surveyed(&survey, &params);
        let fit = Arc::new(Fit { params: Arc::new(params), prediction });
        lock(&self.fits).insert(key, Arc::clone(&fit));
        Ok(fit)
    }

    /// Fits every site of a plan that is not fitted yet, in parallel. Parameters that the plan brings are kept. What an
    /// edit did not touch is known from the last time.
    pub fn fit_plan(&self, plan: &Plan) -> Result<FittedPlan, SessionError> {
        use rayon::prelude::*;
        let plan = self.fit_rewrites(plan)?;
        let fitted_here =
            plan.sites().any(|(_, site)| matches!(site, SitePlan::Quantized { params: None, .. }));
        let variant = self.variant(&plan.rewrites)?;
        let graph = variant.graph();
        let mut fitted: Vec<Option<Known>> = vec![None; graph.sites().len()];
        let mut open: Vec<(usize, &SitePlan)> = Vec::new();
        for (index, site) in graph.sites().iter().enumerate() {
            let Some(chosen @ SitePlan::Quantized { .. }) = plan.site(&site.id) else { continue };
            fitted[index] = self.known_fit(&variant, index, chosen);
            if fitted[index].is_none() {
                open.push((index, chosen));
            }
        }
        if !open.is_empty() {
            // One by one: those of an edit are neighbours, and would all go to one thread.
            let fit = |&(index, chosen): &(usize, &SitePlan)| Ok((index, self.fit(&variant, index, chosen)?));
            let made: Vec<(usize, Option<Known>)> = self
                .pool
                .install(|| open.par_iter().with_max_len(1).map(fit).collect::<Result<_, SessionError>>())?;
            for (index, known) in made {
                fitted[index] = known;
            }
        }
        let mut plan = plan.into_owned();
        let mut predicted = Vec::new();
        let mut params = Vec::with_capacity(fitted.len());
        for (site, fit) in graph.sites().iter().zip(fitted) {
            if let Some((fit, sqnr)) = fit {
                plan.set(&site.id, Some(SitePlan::fitted(fit.as_ref().clone())));
                predicted.extend(sqnr.map(|db| (site.id.clone(), db)));
                params.push(Some(fit));
            } else {
                plan.set(&site.id, Some(SitePlan::Float));
                params.push(None);
            }
        }
        // A plan that came with all its parameters was fitted on another day's calibration.
        if let Some(stats) = self.stats().filter(|_| fitted_here) {
            plan.calibration = Some(CalibrationRef {
                fingerprint: stats.fingerprint.clone(),
                samples: stats.samples.len() as u64,
                seed: 0,
            });
        }
        Ok(FittedPlan { plan: Arc::new(plan), params, predicted_sqnr_db: predicted, variant })
    }

    /// What a plan's choice for a site comes to, if that was found before.
    fn known_fit(&self, variant: &Variant, index: usize, chosen: &SitePlan) -> Option<Known> {
        match chosen {
            SitePlan::Float => None,
            SitePlan::Quantized { params: Some(params), .. } => {
                let given = lock(&self.given);
                let (identity, known) = given.get(&index)?;
                (*identity == variant.site_identity(index) && *known.0 == *params).then(|| known.clone())
            }
            SitePlan::Quantized { scheme, bits, params: None } => {
                let key = FitKey::new(variant, index, scheme, *bits);
                lock(&self.fits).get(&key).map(|fit| (Arc::clone(&fit.params), Some(fit.prediction.sqnr_db)))
            }
        }
    }

    /// The same, found now.
    fn fit(&self, variant: &Variant, index: usize, chosen: &SitePlan) -> Result<Option<Known>, SessionError> {
        let site = &variant.graph().sites()[index];
        Ok(match chosen {
            SitePlan::Float => None,
            SitePlan::Quantized { params: Some(params), .. } => {
                params
                    .check(site.layout_of(params.scheme.granularity))
                    .map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?;
                let seen = match self.sketch_of(variant, index, params.scheme.granularity) {
                    // Statistics of a file do not know the heads; what the plan brings can be run all the same.
                    Err(SessionError::NoCalibration) => None,
                    seen => seen?,
                };
                let predicted = seen.map(|sketch| predict(&sketch, params));
                let known = (Arc::new(params.clone()), predicted.map(|p| p.sqnr_db));
                lock(&self.given).insert(index, (variant.site_identity(index), known.clone()));
                Some(known)
            }
            SitePlan::Quantized { scheme, bits, params: None } => {
                let fit = self.fit_site_in(variant, index, scheme, *bits)?;
                Some((Arc::clone(&fit.params), Some(fit.prediction.sqnr_db)))
            }
        })
    }

    /// A fitted plan made ready for running. What it has in common with the last one is taken over from there.
    pub fn quantization(&self, fitted: &FittedPlan) -> Result<Quantization, SessionError> {
        let engine = &fitted.variant.engine;
        let last = lock(&self.ready).clone();
        let made = match last.filter(|last| Arc::ptr_eq(&last.variant, &fitted.variant)) {
            Some(last) => last.quantization.changed(engine, &last.params, &fitted.params)?,
            None => Quantization::new(engine, &fitted.params)?,
        };
        let (variant, params) = (Arc::clone(&fitted.variant), fitted.params.clone());
        *lock(&self.ready) = Some(Arc::new(Ready { variant, params, quantization: made.clone() }));
        Ok(made)
    }

    /// Bits, bytes and operations of a plan.
    pub fn budget(&self, plan: &Plan) -> Budget {
        budget(plan, &self.layer_costs())
    }

    /// Sizes of the layers, for budgets.
    pub fn layer_costs(&self) -> Vec<LayerCost> {
        let graph = &*self.model.graph;
        graph
            .layers()
            .iter()
            .map(|layer| LayerCost {
                layer: layer.name.clone(),
                macs: layer.cost.macs,
                weights: layer.cost.weights,
                rows: graph.weight_of(layer.node).and_then(|p| p.shape.first()).map_or(0, |&n| n as u64),
            })
            .collect()
    }

    /// Checks that a plan is this model's and names only its sites; `path` is for messages.
    pub fn check_plan(&self, path: &str, plan: &Plan) -> Result<(), SessionError> {
        plan.check_model(path, &self.model_ref())?;
        Ok(plan.check_sites(path, &self.site_ids())?)
    }
}

/// That a family without levels below zero, or beyond one, is not given values that are there.
pub(super) fn check_fits(family: Family, sketch: &Sketch) -> Result<(), QuantizerError> {
    let unfit = |problem| Err(QuantizerError::Unfit { family: family.as_str(), problem });
    let positive = matches!(
        family,
        Family::Log2
            | Family::LogSqrt2
            | Family::Agq
            | Family::Lnq
            | Family::LogIntSoftmax
            | Family::DrqSoftmax
    );
    if positive && sketch.min() < 0.0 {
        return unfit(format!("values reach down to {}, it has no level below zero", sketch.min()));
    }
    // A softmax may round a little beyond one.
    if matches!(family, Family::LogIntSoftmax | Family::DrqSoftmax) && sketch.max() > 1.001 {
        return unfit(format!("values reach up to {}, it is made for probabilities", sketch.max()));
    }
    Ok(())
}
