//! Everything about one site: histograms, channels, grid, and what each choice would give.

use std::sync::Arc;
use std::time::Instant;

use super::messages::{ChoiceView, Generation, HistogramView, SiteDetail, SiteSummary};
use super::variant::Variant;
use super::{Session, SessionError, choices};
use crate::plan::{Plan, SitePlan};
use crate::quantizer::{Distribution, Family, Params, Scheme, Survey, predict_surveyed, quantizer};
use crate::stats::{Evidence, Histogram, Sketch, diagnose};
use crate::terms::{Bits, Layout, SiteId};

/// Intervals of the drawn histograms.
const BINS: usize = 256;
/// Rows and columns of the heat map at most.
const HEAT_ROWS: usize = 128;
const HEAT_COLUMNS: usize = 64;
/// Levels sent for drawing at most.
const LEVELS: usize = 512;

impl Session {
    /// Class and figures of every site whose sketch is known, in the order of the layers.
    pub fn summaries(&self) -> Vec<SiteSummary> {
        use rayon::prelude::*;
        let sites = self.model.graph.sites();
        self.pool.install(|| {
            (0..sites.len())
                .into_par_iter()
                .filter_map(|i| self.sketch(i).map(|sketch| summary(&sites[i].id, sites[i].role, &sketch)))
                .collect()
        })
    }

    /// All about one site under `plan` (its choice is fitted if it is not yet).
    pub fn site_detail(
        &self,
        generation: Generation,
        site: &SiteId,
        plan: &Plan,
    ) -> Result<SiteDetail, SessionError> {
        let graph = &*self.model.graph;
        let Some(index) = graph.site_index(site) else {
            let names: Vec<String> = graph.sites().iter().map(|s| s.id.to_string()).collect();
            let nearest = crate::plan::nearest(&site.to_string(), names.iter().map(String::as_str), 3);
            return Err(SessionError::NoSite { site: site.to_string(), nearest });
        };
        // What the layer sees, not what it saw before the plan's rewrites.
        let plan = &self.fit_rewrites(plan)?;
        let variant = self.variant(&plan.rewrites)?;
        let Some(sketch) = self.sketch_in(&variant, index)? else {
            return Err(SessionError::NotCalibrated { site: site.to_string() });
        };
        let linear = sketch.histogram(BINS, None, false);
        let (mut choices, milliseconds) = self.choices(index, &sketch);
        choices.extend(Self::head_choices(&variant, index));
        let params = match plan.site(site) {
            Some(SitePlan::Quantized { params: Some(params), .. }) => Some(Arc::new(params.clone())),
            Some(SitePlan::Quantized { scheme, bits, params: None }) => {
                Some(Arc::clone(&self.fit_site_in(&variant, index, scheme, *bits)?.params))
            }
            None | Some(SitePlan::Float) => None,
        };
        // A grid per channel cannot be drawn over the distribution of all channels.
        let drawn = params.as_ref().filter(|p| !p.per_channel());
        let levels = drawn.map_or_else(Vec::new, |p| grid(p));
        let clip = levels.first().copied().zip(levels.last().copied());
        let channels = sketch.channel_stats();
        let (heat, heat_rows, heat_columns) = heat_map(&sketch);
        Ok(SiteDetail {
            generation,
            site: site.clone(),
            dequantized: drawn.map(|p| dequantized(&linear, p)),
            logarithmic: view(&sketch.histogram(BINS, None, true)),
            linear: view(&linear),
            levels,
            clip,
            channels: channels.iter().map(|c| (c.min, c.max)).collect(),
            heat,
            heat_rows,
            heat_columns,
            choices,
            milliseconds,
        })
    }

    /// What a site can be given.
    pub fn schemes(&self, index: usize) -> Vec<Scheme> {
        let site = &self.model.graph.sites()[index];
        choices::schemes(site, &self.model.graph.node(site.node).op)
    }

    /// Grids per head: scored once the heads are known, before that only offered, as it takes a pass over the calibration set.
    fn head_choices(variant: &Variant, index: usize) -> Vec<ChoiceView> {
        let schemes = choices::by_head(&variant.graph().sites()[index]);
        let known = variant.known_heads(index);
        let score = |scheme: &Scheme| {
            let known = known.as_ref().map(|sketch| score(&Survey::new(sketch), scheme));
            ChoiceView {
                label: scheme.to_string(),
                scheme: scheme.clone(),
                sqnr_db: known.unwrap_or_default(),
            }
        };
        schemes.iter().map(score).collect()
    }

    /// Every choice at every width, from the sketch alone; and the milliseconds it took.
    pub fn choices(&self, index: usize, sketch: &Sketch) -> (Vec<ChoiceView>, f64) {
        use rayon::prelude::*;
        let start = Instant::now();
        let schemes = self.schemes(index);
        let survey = Survey::new(sketch);
        let score = |scheme: &Scheme| {
            let sqnr_db = score(&survey, scheme);
            ChoiceView { label: scheme.to_string(), scheme: scheme.clone(), sqnr_db }
        };
        let choices = self.pool.install(|| schemes.par_iter().map(score).collect());
        (choices, start.elapsed().as_secs_f64() * 1e3)
    }
}

/// A scheme at every width.
fn score(survey: &Survey<'_>, scheme: &Scheme) -> Vec<(Bits, f64)> {
    // Grids of another shape have a level per code: at 16 bits they cost more than all widths together.
    let offered = |bits: &&Bits| scheme.family == Family::Uniform || bits.levels().is_some_and(|n| n <= 256);
    let data = Distribution::Survey(survey);
    let at = |&bits: &Bits| {
        let params = quantizer(scheme.family).fit(&data, scheme, bits).ok()?;
        Some((bits, predict_surveyed(survey, &params).sqnr_db))
    };
    Bits::ALL.iter().filter(offered).filter_map(at).collect()
}

fn summary(site: &SiteId, role: crate::terms::Role, sketch: &Sketch) -> SiteSummary {
    let diagnosis = diagnose(sketch, role);
    SiteSummary {
        site: site.clone(),
        role,
        class: diagnosis.class,
        sentence: diagnosis.sentence.clone(),
        evidence: named(&diagnosis.evidence),
        min: sketch.min(),
        max: sketch.max(),
        mean: sketch.mean(),
        std: sketch.std(),
        count: sketch.count(),
        zeros: sketch.zeros(),
        nan: sketch.nan(),
        inf: sketch.infinite(),
    }
}

/// The figures behind a class, for people.
pub fn named(e: &Evidence) -> Vec<(String, String)> {
    let join = |values: &[f64]| values.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ");
    let mut all = vec![
        ("kurtosis".to_owned(), format!("{:.2}", e.kurtosis)),
        ("skewness".to_owned(), format!("{:.2}", e.skewness)),
        ("min, p1, median, p99, max".to_owned(), join(&e.quantiles)),
        ("max over p99.9".to_owned(), format!("{:.2}", e.max_over_p999)),
        ("tail spread".to_owned(), format!("{:.2}", e.tail_spread)),
    ];
    if e.tail_slope != 0.0 {
        all.push(("tail slope".to_owned(), format!("{:.2}", e.tail_slope)));
    }
    if e.zeros > 0.0 {
        all.push(("zeros".to_owned(), format!("{:.1} %", e.zeros * 100.0)));
    }
    if e.peaks.at.len() > 1 {
        all.push(("peaks".to_owned(), join(&e.peaks.at)));
        all.push(("valley".to_owned(), format!("{:.2}", e.peaks.valley)));
    }
    if e.channels > 1 {
        all.push(("channel ratio".to_owned(), format!("{:.2}", e.channel_ratio)));
    }
    if !e.outlier_channels.is_empty() {
        let numbers: Vec<String> = e.outlier_channels.iter().take(8).map(|c| c.channel.to_string()).collect();
        let more = e.outlier_channels.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        all.push(("outlier channels".to_owned(), format!("{}{more}", numbers.join(", "))));
    }
    all
}

fn view(h: &Histogram) -> HistogramView {
    let bins = h.counts.len();
    let mut edges: Vec<f32> = (0..bins).map(|i| h.edges(i).0 as f32).collect();
    edges.push(if bins == 0 { 0.0 } else { h.edges(bins - 1).1 as f32 });
    HistogramView { edges, counts: h.counts.clone() }
}

/// The grid for drawing, thinned when it has very many levels.
fn grid(params: &Params) -> Vec<f32> {
    let mut levels = quantizer(params.scheme.family).levels(params, 0);
    levels.sort_by(f32::total_cmp);
    let step = levels.len().div_ceil(LEVELS).max(1);
    let last = levels.last().copied();
    let mut thinned: Vec<f32> = levels.into_iter().step_by(step).collect();
    if let (Some(last), Some(end)) = (last, thinned.last_mut()) {
        *end = last;
    }
    thinned
}

/// Where the mass of a histogram goes under the grid: each interval's middle is quantized.
fn dequantized(h: &Histogram, params: &Params) -> HistogramView {
    let mut out = view(h);
    let mut middles: Vec<f32> = (0..h.counts.len())
        .map(|i| {
            let (lo, hi) = h.edges(i);
            f64::midpoint(lo, hi) as f32
        })
        .collect();
    let layout = Layout::tensor(middles.len());
    quantizer(params.scheme.family).fake_quantize(&mut middles, layout, params);
    out.counts.iter_mut().for_each(|c| *c = 0.0);
    for (value, count) in middles.iter().zip(&h.counts) {
        let at =
            h.bin(f64::from(*value)).unwrap_or(if f64::from(*value) < h.lo { 0 } else { h.counts.len() - 1 });
        if let Some(bin) = out.counts.get_mut(at) {
            *bin += count;
        }
    }
    out
}

/// How far each channel (or group of channels) reaches over the tensor's range: the share of the cell between the
/// channel's smallest and largest value, denser where a normal of its mean and spread would be.
fn heat_map(sketch: &Sketch) -> (Vec<f32>, usize, usize) {
    let channels = sketch.channel_stats();
    let (lo, hi) = (f64::from(sketch.min()), f64::from(sketch.max()));
    if channels.is_empty() || hi <= lo || !(hi - lo).is_finite() {
        return (Vec::new(), 0, 0);
    }
    let group = channels.len().div_ceil(HEAT_ROWS);
    let rows = channels.len().div_ceil(group);
    let width = (hi - lo) / HEAT_COLUMNS as f64;
    let mut heat = vec![0.0_f32; rows * HEAT_COLUMNS];
    for (row, part) in heat.chunks_exact_mut(HEAT_COLUMNS).zip(channels.chunks(group)) {
        for channel in part {
            let (min, max) = (f64::from(channel.min), f64::from(channel.max));
            let std = channel.std.max(width / 4.0);
            let density = |x: f64| (-0.5 * ((x - channel.mean) / std).powi(2)).exp();
            let inside = |i: usize| {
                let middle = lo + (i as f64 + 0.5) * width;
                (min - width / 2.0..=max + width / 2.0).contains(&middle).then(|| density(middle).max(1e-3))
            };
            let total: f64 = (0..HEAT_COLUMNS).filter_map(inside).sum();
            for (i, cell) in row.iter_mut().enumerate() {
                if let Some(d) = inside(i) {
                    *cell += (d / total.max(f64::MIN_POSITIVE) / part.len() as f64) as f32;
                }
            }
        }
    }
    (heat, rows, HEAT_COLUMNS)
}
