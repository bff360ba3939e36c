//! The error of parameters on a site, in units in which a site before and after a rewrite can be compared.

use std::sync::Arc;

use crate::graph::{Graph, Op, RewriteKind};
use crate::plan::Rewrite;
use crate::quantizer::{
    Distribution, Params, Prediction, Scheme, Survey, predict_scaled, predict_surveyed, quantizer,
};
use crate::session::{Session, fit};
use crate::stats::Sketch;
use crate::terms::{Bits, Layout, SiteId, Slot};

/// Measures one site of a rewritten (or the opened) model.
///
/// A rewrite that divides the channels of a LayerNorm changes what an error weighs: the layer behind multiplies it back.
/// There the error counts as that layer sees it, in units of the values before the rewrite; of a weight as it changes
/// the layer's output, its columns weighed with the mean squares of the input's channels. Everywhere else it is what
/// [`predict_surveyed`] says.
pub(super) struct Gauge<'s> {
    survey: Survey<'s>,
    kind: Kind,
}

enum Kind {
    /// As it is.
    Plain,
    /// An activation: squared divisors of its channels, mean square before the rewrite.
    Scaled { factors: Vec<f64>, signal: f64 },
    /// A weight `[out, in]`: its values and what a squared error in each column counts.
    Weight { values: Vec<f32>, layout: Layout, columns: Vec<f64> },
}

/// A scheme, what it was fitted to, and what that promises.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    pub(super) scheme: Scheme,
    pub(super) params: Arc<Params>,
    pub(super) prediction: Prediction,
}

impl<'s> Gauge<'s> {
    /// Of a site whose values are those of the opened model.
    pub(super) fn plain(sketch: &'s Sketch) -> Self {
        Self { survey: Survey::new(sketch), kind: Kind::Plain }
    }

    /// Whether errors are in the units of the opened model, other than those of the values themselves.
    pub(super) fn is_scaled(&self) -> bool {
        !matches!(self.kind, Kind::Plain)
    }

    /// What parameters do to the site.
    pub(super) fn measure(&self, params: &Params) -> Prediction {
        match &self.kind {
            Kind::Plain => predict_surveyed(&self.survey, params),
            Kind::Scaled { factors, signal } => predict_scaled(&self.survey, params, factors, *signal),
            Kind::Weight { values, layout, columns } => {
                let plain = predict_surveyed(&self.survey, params);
                let (mse, signal) = weighed_error(values, *layout, params, columns);
                Prediction { mse, signal, sqnr_db: decibels(signal, mse), ..plain }
            }
        }
    }

    /// Fits a scheme and measures it; `None` where it does not suit the values.
    pub(super) fn score(&self, scheme: &Scheme, bits: Bits) -> Option<Scored> {
        fit::check_fits(scheme.family, self.survey.sketch()).ok()?;
        let params = quantizer(scheme.family).fit(&Distribution::Survey(&self.survey), scheme, bits).ok()?;
        let prediction = self.measure(&params);
        Some(Scored { scheme: scheme.clone(), params: Arc::new(params), prediction })
    }
}

impl Session {
    /// The gauge of a site under rewrites that made `graph`, `sketch` being the site's there.
    pub(super) fn gauge<'s>(
        &self,
        graph: &Graph,
        rewrites: &[Rewrite],
        index: usize,
        sketch: &'s Sketch,
    ) -> Gauge<'s> {
        let survey = Survey::new(sketch);
        let Some(divisors) = self.divisors(rewrites, index) else {
            return Gauge { survey, kind: Kind::Plain };
        };
        let site = &self.model.graph.sites()[index];
        if site.id.slot != Slot::Weight {
            let factors: Vec<f64> = divisors.iter().map(|s| s * s).collect();
            let kind = match self.sketch(index) {
                Some(before) if factors.len() == sketch.channels() => {
                    Kind::Scaled { factors, signal: before.mean_square() }
                }
                _ => Kind::Plain,
            };
            return Gauge { survey, kind };
        }
        let columns =
            divisors.iter().zip(self.input_squares(index, divisors.len())).map(|(s, m)| m / (s * s));
        let kind = match graph.weight_of(site.node) {
            Some(weight) if weight.shape.last() == Some(&divisors.len()) => {
                Kind::Weight { values: weight.data.to_vec(), layout: site.layout, columns: columns.collect() }
            }
            _ => Kind::Plain,
        };
        Gauge { survey, kind }
    }

    /// The same for a weight that nothing rewrote, in the units of one behind `rewrites`.
    pub(super) fn gauge_before<'s>(&self, index: usize, sketch: &'s Sketch, behind: &Gauge<'_>) -> Gauge<'s> {
        let survey = Survey::new(sketch);
        let site = &self.model.graph.sites()[index];
        let kind = match (&behind.kind, self.model.graph.weight_of(site.node)) {
            (Kind::Weight { columns, .. }, Some(weight)) => Kind::Weight {
                values: weight.data.to_vec(),
                layout: site.layout,
                columns: self.input_squares(index, columns.len()),
            },
            _ => Kind::Plain,
        };
        Gauge { survey, kind }
    }

    /// The error of a weight's parameters after its columns were multiplied with `divisors`, as the layer's output sees
    /// it, in dB; for divisors of 1 that of the weight as it is.
    pub(super) fn weight_db(
        &self,
        index: usize,
        divisors: &[f64],
        scheme: &Scheme,
        bits: Bits,
    ) -> Option<f64> {
        let site = &self.model.graph.sites()[index];
        let weight = self.model.graph.weight_of(site.node)?;
        if weight.shape.last() != Some(&divisors.len()) || divisors.is_empty() {
            return None;
        }
        let mut values = weight.data.to_vec();
        for row in values.chunks_exact_mut(divisors.len()) {
            row.iter_mut().zip(divisors).for_each(|(w, s)| *w *= *s as f32);
        }
        let data = Distribution::Raw { values: &values, layout: site.layout };
        let params = quantizer(scheme.family).fit(&data, scheme, bits).ok()?;
        let squares = self.input_squares(index, divisors.len());
        let columns: Vec<f64> = divisors.iter().zip(squares).map(|(s, m)| m / (s * s)).collect();
        let (mse, signal) = weighed_error(&values, site.layout, &params, &columns);
        Some(decibels(signal, mse))
    }

    /// What rewrites divide the channels of a site by (and multiply the columns of a weight with); `None` where they do
    /// neither.
    pub(super) fn divisors(&self, rewrites: &[Rewrite], index: usize) -> Option<Vec<f64>> {
        let site = &self.model.graph.sites()[index];
        let mut all: Option<Vec<f64>> = None;
        for rewrite in rewrites {
            let kind: RewriteKind = rewrite.rewrite.parse().ok()?;
            if !matches!(kind, RewriteKind::NormReparameterization | RewriteKind::Smoothing)
                || !self.reaches(kind, &rewrite.layer, &site.id)
            {
                continue;
            }
            let scale = rewrite.vectors.get("scale")?;
            let all = all.get_or_insert_with(|| vec![1.0; scale.len()]);
            all.iter_mut().zip(scale).for_each(|(all, &s)| *all *= f64::from(s));
        }
        all
    }

    /// Whether a rewrite changes the values of a site.
    pub(super) fn reaches(&self, kind: RewriteKind, layer: &str, site: &SiteId) -> bool {
        let places = self.rewrite_places();
        places.iter().any(|place| place.kind == kind && place.layer == layer && place.sites.contains(site))
    }

    /// Mean squares of the input channels of a weight's layer, before any rewrite; ones while they are not known.
    fn input_squares(&self, weight: usize, channels: usize) -> Vec<f64> {
        let graph = &*self.model.graph;
        let node = graph.sites()[weight].node;
        let linear = matches!(graph.node(node).op, Op::Linear { .. });
        let input = graph.sites().iter().position(|site| site.node == node && site.operand == Some(0));
        let sketch = input.filter(|_| linear).and_then(|input| self.sketch(input));
        match sketch {
            Some(sketch) if sketch.channels() == channels => {
                sketch.channel_stats().iter().map(|c| c.mean * c.mean + c.std * c.std).collect()
            }
            _ => vec![1.0; channels],
        }
    }
}

/// Mean squared error of fake quantization and mean square of the values, columns weighed.
fn weighed_error(values: &[f32], layout: Layout, params: &Params, columns: &[f64]) -> (f64, f64) {
    let mut quantized = values.to_vec();
    if params.check(layout).is_ok() {
        quantizer(params.scheme.family).fake_quantize(&mut quantized, layout, params);
    }
    let (mut error, mut signal) = (0.0, 0.0);
    let width = columns.len().max(1);
    for (exact, rounded) in values.chunks_exact(width).zip(quantized.chunks_exact(width)) {
        for ((&w, &q), weight) in exact.iter().zip(rounded).zip(columns) {
            let (w, off) = (f64::from(w), f64::from(w) - f64::from(q));
            error += weight * off * off;
            signal += weight * w * w;
        }
    }
    let n = values.len().max(1) as f64;
    (error / n, signal / n)
}

/// As predictions say it: 200 for no error, 0 for no signal.
pub(super) fn decibels(signal: f64, error: f64) -> f64 {
    if signal <= 0.0 {
        0.0
    } else if error <= 0.0 {
        200.0
    } else {
        (10.0 * (signal / error).log10()).min(200.0)
    }
}
