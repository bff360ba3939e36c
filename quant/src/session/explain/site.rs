//! One site under a plan.

use std::sync::Arc;

use serde::Serialize;

use super::faults::{self, Exchange, Findings, HeldOutFinding, NamedFault, Offer, RewriteFinding};
use super::gauge::{Gauge, Scored};
use super::remedy::{Remedy, parse};
use super::waste::Waste;
use super::words;
use crate::graph::{Op, RewriteKind, Site};
use crate::plan::{Rewrite, SitePlan};
use crate::quantizer::{Family, Granularity, Params, RangeSearch, Scheme, quantizer, rewriting};
use crate::session::{FittedPlan, Session, SessionError};
use crate::stats::{Evidence, Sketch, diagnose};
use crate::terms::{Bits, Class, Role, SiteId, Slot};

/// Advice is given from this gain on.
const WORTH_DB: f64 = 1.0;

/// What is known of a site under a plan. All SQNR are predicted from sketches; behind a rewrite that divides channels they
/// count errors as the layer sees them, in units of the values before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteExplanation {
    /// Which site.
    pub site: SiteId,
    /// What it holds.
    pub role: Role,
    /// Its distribution, after the plan's rewrites.
    pub class: Class,
    /// The figures behind that.
    pub evidence: Evidence,
    /// What the plan does to it; none in full precision.
    pub present: Option<Present>,
    /// What is wrong, the costliest first.
    pub faults: Vec<NamedFault>,
    /// What would help, faults' remedies first, then what gains most at these bits, then more bits.
    pub remedies: Vec<Advice>,
    /// Every quantizer that suits the site at these bits (for a site in full precision at those asked for, 8 as a rule), best first.
    pub choices: Vec<Choice>,
    /// The present grid with its best range at other widths.
    pub widths: Vec<Width>,
    /// Rewrites that change the site's values, best first.
    pub rewrites: Vec<RewriteChoice>,
    /// The site on samples that were not calibrated on, once they were observed.
    pub held_out: Option<HeldOut>,
    /// All of it for people, one sentence or two each: faults, distribution, quantizer, remedies, held-out samples.
    pub sentences: Vec<String>,
}

/// What a plan does to a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Present {
    /// The quantizer, as in lists.
    pub quantizer: String,
    /// The quantizer.
    pub scheme: Scheme,
    /// Its bits.
    pub bits: Bits,
    /// Predicted.
    pub sqnr_db: f64,
    /// Share of the values that is clipped.
    pub clipped_fraction: f64,
    /// Levels of the grid (of one channel).
    pub levels: u32,
    /// Levels in use: those that any calibration value is rounded to.
    pub levels_used: u32,
    /// The fewest levels that hold nine of ten values; none for a grid per channel.
    pub crowded_levels: Option<u32>,
    /// Levels between the two peaks of a bimodal distribution that hold next to nothing; none for a grid per channel.
    pub empty_middle_levels: Option<u32>,
    /// Rewrites of the plan that changed the values, and where.
    pub rewritten_by: Vec<(String, String)>,
}

/// A quantizer at the present bits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// As in lists.
    pub quantizer: String,
    /// What would be written into the plan.
    pub scheme: Scheme,
    /// Predicted.
    pub sqnr_db: f64,
    /// Over the present one; none in full precision.
    pub gain_db: Option<f64>,
}

/// The present grid at another width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Width {
    /// The width.
    pub bits: Bits,
    /// Predicted.
    pub sqnr_db: f64,
}

/// A rewrite that changes the site's values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RewriteChoice {
    /// Which.
    pub rewrite: String,
    /// Where.
    pub layer: String,
    /// Whether the plan has it.
    pub on: bool,
    /// Predicted for the site, with numbers from a fit.
    pub sqnr_db: f64,
    /// Over the present one.
    pub gain_db: f64,
    /// What it changes at the weight behind it, as that layer's output sees it, where that is quantized.
    pub weight_gain_db: Option<f64>,
}

/// Something that would help.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What to do.
    #[serde(flatten)]
    pub remedy: Remedy,
    /// Predicted for the site; none where only a run can say.
    pub sqnr_db: Option<f64>,
    /// Over the present one.
    pub gain_db: Option<f64>,
    /// For people.
    pub sentence: String,
}

/// A site in calibration and on held-out samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldOut {
    /// Least and largest value in calibration.
    pub calibration_range: [f32; 2],
    /// Least and largest value held out.
    pub range: [f32; 2],
    /// Share of the values that the present quantizer clips in calibration.
    pub calibration_clipped_fraction: f64,
    /// The same held out.
    pub clipped_fraction: f64,
    /// What the present parameters give there.
    pub sqnr_db: f64,
    /// Whether both disagree (see [`super::MISMATCH_RATIO`]).
    pub disagrees: bool,
}

/// A quantized site while it is being explained.
struct Subject<'a> {
    session: &'a Session,
    fitted: &'a FittedPlan,
    index: usize,
    site: &'a Site,
    params: &'a Arc<Params>,
    gauge: &'a Gauge<'a>,
    /// The present parameters.
    present: Offer,
    /// Every quantizer at these bits, best first.
    scored: Vec<Scored>,
    /// The best range of the present grid.
    range: Option<Scored>,
    /// Rewrites of the plan that reach the site.
    rewrites: Vec<Rewrite>,
}

impl Session {
    /// Explains one site under a fitted plan from what is known by now, without running the model.
    pub fn explain_site(&self, site: &SiteId, fitted: &FittedPlan) -> Result<SiteExplanation, SessionError> {
        self.explain_site_at(site, fitted, Bits::EIGHT)
    }

    /// The same; choices of a site in full precision are scored at `float_bits`.
    pub fn explain_site_at(
        &self,
        site: &SiteId,
        fitted: &FittedPlan,
        float_bits: Bits,
    ) -> Result<SiteExplanation, SessionError> {
        let index = self.index_of(site)?;
        let variant = &fitted.variant;
        let Some(sketch) = self.sketch_in(variant, index)? else {
            return Err(SessionError::NotCalibrated { site: site.to_string() });
        };
        let place = &variant.graph().sites()[index];
        let diagnosis = diagnose(&sketch, place.role);
        let quantized = fitted.params.get(index).and_then(Option::as_ref);
        // A grid per head is judged head by head; for all others both sketches say the same.
        let granularity = quantized.map_or(Granularity::Tensor, |params| params.scheme.granularity);
        let sketch = self.sketch_of(variant, index, granularity)?.unwrap_or(sketch);
        let gauge = self.gauge(variant.graph(), &fitted.plan.rewrites, index, &sketch);
        let bits = quantized.map_or(float_bits, |params| params.bits);
        let scored = self.score_all(index, &gauge, quantized.map(|params| &params.scheme), bits);
        let mut made = SiteExplanation {
            site: site.clone(),
            role: place.role,
            class: diagnosis.class,
            evidence: diagnosis.evidence,
            present: None,
            faults: Vec::new(),
            remedies: Vec::new(),
            choices: Vec::new(),
            widths: Vec::new(),
            rewrites: Vec::new(),
            held_out: None,
            sentences: vec![diagnosis.sentence],
        };
        let used = self.model.graph.is_used(self.model.graph.sites()[index].node);
        if let Some(params) = quantized {
            let prediction = gauge.measure(params);
            let present = offer(&params.scheme, &prediction);
            let range = scored.iter().find(|s| same_grid(&s.scheme, &params.scheme)).cloned();
            let rewrites = self.rewrites_at(&fitted.plan.rewrites, site);
            let subject = Subject {
                session: self,
                fitted,
                index,
                site: place,
                params,
                gauge: &gauge,
                present,
                scored,
                range,
                rewrites,
            };
            subject.explain(&sketch, &mut made)?;
        } else {
            made.choices = scored.iter().map(|s| choice(s, None)).collect();
            made.sentences.extend(words::float(&made, bits));
        }
        if !used {
            made.sentences.insert(0, words::NOT_USED.to_owned());
        }
        Ok(made)
    }

    /// The place of a site of this model.
    pub(in crate::session) fn index_of(&self, site: &SiteId) -> Result<usize, SessionError> {
        let graph = &self.model.graph;
        graph.site_index(site).ok_or_else(|| {
            let names: Vec<String> = graph.sites().iter().map(|s| s.id.to_string()).collect();
            let nearest = crate::plan::nearest(&site.to_string(), names.iter().map(String::as_str), 3);
            SessionError::NoSite { site: site.to_string(), nearest }
        })
    }

    /// Every quantizer that suits a site, and the one it has, at some bits; best first.
    fn score_all(
        &self,
        index: usize,
        gauge: &Gauge<'_>,
        present: Option<&Scheme>,
        bits: Bits,
    ) -> Vec<Scored> {
        let mut schemes = self.schemes(index);
        schemes.extend(present.filter(|scheme| !schemes.contains(scheme)).cloned());
        let mut scored: Vec<Scored> = schemes
            .iter()
            // As in the list of choices: other grids have a level per code.
            .filter(|scheme| scheme.family == Family::Uniform || bits.levels().is_some_and(|n| n <= 256))
            .filter_map(|scheme| gauge.score(scheme, bits))
            .collect();
        scored.sort_by(|a, b| b.prediction.sqnr_db.total_cmp(&a.prediction.sqnr_db));
        scored
    }

    /// The rewrites among some that change what a site holds by numbers that were found.
    pub(super) fn rewrites_at(&self, rewrites: &[Rewrite], site: &SiteId) -> Vec<Rewrite> {
        let reaches = |rewrite: &&Rewrite| {
            parse(&rewrite.rewrite).is_ok_and(|kind| {
                kind != RewriteKind::BatchNormFolding && self.reaches(kind, &rewrite.layer, site)
            })
        };
        rewrites.iter().filter(reaches).cloned().collect()
    }
}

impl Subject<'_> {
    fn explain(&self, sketch: &Sketch, made: &mut SiteExplanation) -> Result<(), SessionError> {
        let now = self.present.sqnr_db;
        let waste = Waste::of(sketch, self.params, &made.evidence);
        made.present = Some(Present {
            quantizer: self.params.scheme.to_string(),
            scheme: self.params.scheme.clone(),
            bits: self.params.bits,
            sqnr_db: now,
            clipped_fraction: self.present.clipped,
            levels: levels(self.params),
            levels_used: self.present.levels_used,
            crowded_levels: waste.map(|waste| waste.crowded),
            empty_middle_levels: waste.map(|waste| waste.empty_middle),
            rewritten_by: names(&self.rewrites),
        });
        made.choices = self.scored.iter().map(|scored| choice(scored, Some(now))).collect();
        let wider = self.wider();
        made.widths =
            wider.iter().map(|(bits, _, sqnr_db)| Width { bits: *bits, sqnr_db: *sqnr_db }).collect();
        made.rewrites = self.rewrite_choices();
        made.held_out = self.held_out(sketch);
        let other = self
            .scored
            .iter()
            // Outlier groups cost more than the bits that they are said to have.
            .find(|s| !same_grid(&s.scheme, &self.params.scheme) && s.scheme.family != Family::Rorq);
        let anew = self.scored.iter().find(|s| s.scheme == self.params.scheme);
        let findings = Findings {
            present: self.present.clone(),
            anew: anew.map(|s| s.prediction.sqnr_db),
            range: self.range.as_ref().map(|s| offer(&s.scheme, &s.prediction)),
            other: other.map(|s| offer(&s.scheme, &s.prediction)),
            wider,
            rewrites: self.without_rewrites(&made.rewrites),
            exchange: self.exchange()?,
            held_out: made
                .held_out
                .as_ref()
                .map(|h| HeldOutFinding { sqnr_db: h.sqnr_db, clipped: h.clipped_fraction }),
        };
        let found = faults::find(&findings);
        let disagrees = |(fault, ..): &(faults::Fault, f64, Remedy)| {
            matches!(fault, faults::Fault::CalibrationMismatch { .. })
        };
        if let Some(held_out) = &mut made.held_out {
            held_out.disagrees = found.iter().any(disagrees);
        }
        made.faults = found
            .into_iter()
            .map(|(fault, cost_db, remedy)| {
                let sentence = words::fault(&fault, made, sketch);
                NamedFault { fault, cost_db, remedy, sentence }
            })
            .collect();
        made.remedies = self.remedies(made);
        words::tell(made);
        Ok(())
    }

    /// The best range of the present grid at wider bits.
    fn wider(&self) -> Vec<(Bits, Scheme, f64)> {
        let scheme = self.range.as_ref().map_or(&self.params.scheme, |range| &range.scheme);
        let uniform = scheme.family == Family::Uniform;
        Bits::ALL
            .iter()
            .filter(|bits| !bits.is_float() && **bits > self.params.bits)
            .filter(|bits| uniform || bits.levels().is_some_and(|n| n <= 256))
            .filter_map(|&bits| {
                let scored = self.gauge.score(scheme, bits)?;
                Some((bits, scored.scheme, scored.prediction.sqnr_db))
            })
            .collect()
    }

    /// What rewrites would give this site, fitted; of an activation only. Those that need a pass of their own are left
    /// out until it was made.
    fn rewrite_choices(&self) -> Vec<RewriteChoice> {
        if self.site.id.slot == Slot::Weight {
            return Vec::new();
        }
        let session = self.session;
        let tried = session.tried();
        let on = |kind: RewriteKind, layer: &str| {
            self.rewrites.iter().any(|r| r.layer == layer && r.rewrite == kind.as_str())
        };
        let mut found = Vec::new();
        for place in session.rewrite_places().iter().filter(|place| place.sites.contains(&self.site.id)) {
            let (sqnr_db, divisors) = match place.kind {
                RewriteKind::BatchNormFolding => continue,
                RewriteKind::NormReparameterization => {
                    // The grid for all channels that it leads to is the grid per channel that it is made of.
                    let Some(before) = session.sketch(self.index) else { continue };
                    let Some(scored) = Gauge::plain(&before).score(&self.channels_scheme(), self.params.bits)
                    else {
                        continue;
                    };
                    let divisors = rewriting::reparameterize(&scored.params).scale;
                    (scored.prediction.sqnr_db, Some(divisors))
                }
                RewriteKind::Smoothing | RewriteKind::SignFolding => {
                    let Some(tried) = &tried else { continue };
                    let Some(rewrite) = tried.at(place.kind, &place.layer) else { continue };
                    let Some(sketch) = tried.sketch(self.index) else { continue };
                    let graph = &session.model.graph;
                    let gauge = session.gauge(graph, std::slice::from_ref(rewrite), self.index, sketch);
                    let schemes = [Some(&self.params.scheme), self.range.as_ref().map(|range| &range.scheme)];
                    let scored =
                        schemes.into_iter().flatten().filter_map(|s| gauge.score(s, self.params.bits));
                    let Some(best) = scored.map(|s| s.prediction.sqnr_db).reduce(f64::max) else { continue };
                    (best, rewrite.vectors.get("scale").cloned())
                }
            };
            found.push(RewriteChoice {
                rewrite: place.kind.to_string(),
                layer: place.layer.clone(),
                on: on(place.kind, &place.layer),
                sqnr_db,
                gain_db: sqnr_db - self.present.sqnr_db,
                weight_gain_db: divisors.and_then(|divisors| self.weight_gain(&divisors)),
            });
        }
        found.sort_by(|a, b| b.sqnr_db.total_cmp(&a.sqnr_db));
        found
    }

    /// The present scheme per channel, or the one of the paper if that is no uniform one.
    fn channels_scheme(&self) -> Scheme {
        match self.params.scheme.family {
            Family::Uniform => self.params.scheme.clone().per_channel(),
            _ => Scheme::new(Family::Uniform, RangeSearch::repq()).per_channel(),
        }
    }

    /// What dividing the input's channels does to the weight of the same layer, as its output sees it.
    fn weight_gain(&self, divisors: &[f32]) -> Option<f64> {
        let id = SiteId::new(self.site.id.layer.clone(), Slot::Weight);
        let index = self.session.model.graph.site_index(&id)?;
        let Some(SitePlan::Quantized { scheme, bits, .. }) = self.fitted.plan.site(&id) else { return None };
        let divisors: Vec<f64> = divisors.iter().map(|&s| f64::from(s)).collect();
        let after = self.session.weight_db(index, &divisors, scheme, *bits)?;
        let before = self.session.weight_db(index, &vec![1.0; divisors.len()], scheme, *bits)?;
        Some(after - before)
    }

    /// The site as it would be without the plan's rewrites of it.
    fn without_rewrites(&self, choices: &[RewriteChoice]) -> Option<RewriteFinding> {
        if self.rewrites.is_empty() {
            return None;
        }
        let before = self.session.sketch(self.index)?;
        let gauge = match self.site.id.slot {
            Slot::Weight => self.session.gauge_before(self.index, &before, self.gauge),
            _ => Gauge::plain(&before),
        };
        let schemes = [Some(&self.params.scheme), self.range.as_ref().map(|range| &range.scheme)];
        let scored = schemes.into_iter().flatten().filter_map(|scheme| gauge.score(scheme, self.params.bits));
        let without_db = scored.map(|scored| scored.prediction.sqnr_db).reduce(f64::max)?;
        let fitted_db =
            choices.iter().filter(|choice| choice.on).map(|choice| choice.sqnr_db).reduce(f64::max);
        Some(RewriteFinding { rewrites: names(&self.rewrites), without_db, fitted_db })
    }

    /// Both operands of a product with each other's parameters.
    fn exchange(&self) -> Result<Option<Exchange>, SessionError> {
        let graph = self.fitted.variant.graph();
        if !matches!(graph.node(self.site.node).op, Op::MatMul { .. }) {
            return Ok(None);
        }
        let slot = if self.site.id.slot == Slot::Lhs { Slot::Rhs } else { Slot::Lhs };
        let with = SiteId::new(self.site.id.layer.clone(), slot);
        let Some(index) = graph.site_index(&with) else { return Ok(None) };
        let Some(theirs) = self.fitted.params.get(index).and_then(Option::as_ref) else { return Ok(None) };
        // Parameters of each channel belong to it.
        let alike = same_grid(&theirs.scheme, &self.params.scheme) && theirs.bits == self.params.bits;
        if !alike || theirs.scheme.granularity != Granularity::Tensor || theirs == self.params {
            return Ok(None);
        }
        let Some(sketch) = self.session.sketch_in(&self.fitted.variant, index)? else { return Ok(None) };
        let gauge = self.session.gauge(graph, &self.fitted.plan.rewrites, index, &sketch);
        let fit = gauge.score(&theirs.scheme, theirs.bits);
        let own_fit = self.gauge.score(&self.params.scheme, self.params.bits);
        let (Some(fit), Some(own_fit)) = (fit, own_fit) else { return Ok(None) };
        let db = |gauge: &Gauge<'_>, params: &Params| gauge.measure(params).sqnr_db;
        Ok(Some(Exchange {
            with,
            own: [self.present.sqnr_db, db(self.gauge, theirs), own_fit.prediction.sqnr_db],
            other: [db(&gauge, theirs), db(&gauge, self.params), fit.prediction.sqnr_db],
        }))
    }

    /// The present parameters on held-out samples.
    fn held_out(&self, sketch: &Sketch) -> Option<HeldOut> {
        if self.site.id.slot == Slot::Weight || self.params.scheme.granularity == Granularity::Head {
            return None;
        }
        let variant = &self.fitted.variant;
        let seen = self.session.held_out_sketch(variant, self.index)?;
        let mut prediction = Gauge::plain(&seen).measure(self.params);
        if self.gauge.is_scaled() {
            let divisors = self.session.divisors(&self.rewrites, self.index)?;
            let factors: Vec<f64> = divisors.iter().map(|s| s * s).collect();
            let before = self.session.held_out_sketch(&self.session.base, self.index)?;
            let survey = crate::quantizer::Survey::new(&seen);
            prediction =
                crate::quantizer::predict_scaled(&survey, self.params, &factors, before.mean_square());
        }
        Some(HeldOut {
            calibration_range: [sketch.min(), sketch.max()],
            range: [seen.min(), seen.max()],
            calibration_clipped_fraction: self.present.clipped,
            clipped_fraction: prediction.clipped_fraction,
            sqnr_db: prediction.sqnr_db,
            disagrees: false,
        })
    }

    /// What would help, see [`SiteExplanation::remedies`].
    fn remedies(&self, made: &SiteExplanation) -> Vec<Advice> {
        let now = self.present.sqnr_db;
        let advice = |remedy: Remedy, sqnr_db: Option<f64>| {
            let gain_db = sqnr_db.map(|db| db - now);
            let sentence = words::advice(&remedy, gain_db, &self.params.scheme);
            Advice { remedy, sqnr_db, gain_db, sentence }
        };
        let mut all: Vec<Advice> = made
            .faults
            .iter()
            .map(|named| advice(named.remedy.clone(), faults::reached(&named.fault)))
            .collect();
        let mut here = Vec::new();
        if let Some(best) = self.scored.first().filter(|s| s.prediction.sqnr_db - now >= WORTH_DB) {
            let remedy = Remedy::Quantizer { scheme: best.scheme.clone(), bits: None };
            here.push(advice(remedy, Some(best.prediction.sqnr_db)));
        }
        // Divisors on divisors are nobody's method.
        let free = self.rewrites.is_empty();
        if let Some(best) = made.rewrites.iter().find(|r| free && !r.on && r.gain_db >= WORTH_DB) {
            let remedy = Remedy::Rewrite { rewrite: best.rewrite.clone(), layer: best.layer.clone() };
            here.push(advice(remedy, Some(best.sqnr_db)));
        }
        here.sort_by(|a, b| b.gain_db.unwrap_or(0.0).total_cmp(&a.gain_db.unwrap_or(0.0)));
        if let Some(wider) = made.widths.iter().find(|w| w.sqnr_db - now >= faults::FAULT_DB) {
            let scheme = self.range.as_ref().map_or(&self.params.scheme, |range| &range.scheme);
            let remedy = Remedy::Quantizer { scheme: scheme.clone(), bits: Some(wider.bits) };
            here.push(advice(remedy, Some(wider.sqnr_db)));
        }
        for one in here {
            if !all.iter().any(|known| known.remedy == one.remedy) {
                all.push(one);
            }
        }
        all
    }
}

fn names(rewrites: &[Rewrite]) -> Vec<(String, String)> {
    rewrites.iter().map(|r| (r.rewrite.clone(), r.layer.clone())).collect()
}

fn choice(scored: &Scored, now: Option<f64>) -> Choice {
    Choice {
        quantizer: scored.scheme.to_string(),
        scheme: scored.scheme.clone(),
        sqnr_db: scored.prediction.sqnr_db,
        gain_db: now.map(|now| scored.prediction.sqnr_db - now),
    }
}

fn offer(scheme: &Scheme, prediction: &crate::quantizer::Prediction) -> Offer {
    Offer {
        scheme: scheme.clone(),
        sqnr_db: prediction.sqnr_db,
        clipped: prediction.clipped_fraction,
        levels_used: prediction.levels_used,
    }
}

/// Whether two schemes differ in nothing but the search of their range.
fn same_grid(a: &Scheme, b: &Scheme) -> bool {
    a.family == b.family && a.symmetric == b.symmetric && a.granularity == b.granularity && a.paper == b.paper
}

/// Levels of one grid.
fn levels(params: &Params) -> u32 {
    if params.scheme.family == Family::Uniform {
        return params.levels() - u32::from(params.scheme.symmetric);
    }
    quantizer(params.scheme.family).levels(params, 0).len() as u32
}
