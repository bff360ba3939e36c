//! Work before a frame: pictures are drawn into cells here, and only when their data, size or mode changed.

use std::sync::Arc;

use bitloupe_quant::eval::answer::Answer;
use bitloupe_quant::eval::metrics::BinaryMask;
use bitloupe_quant::session::messages::{SampleView, SiteDetail};
use ratatui::layout::Rect;

use super::{App, MaskView, Pane, Plot};
use crate::layout::Screen;
use crate::view::{choices_page, histogram_area, layers_page, picture_areas, picture_beside};
use crate::widget::Raster;
use crate::widget::heat::Heat;
use crate::widget::histogram::Histogram;
use crate::widget::mask::{Mask, Pixels, Tint, difference, overlay};

/// Prepared pictures.
#[derive(Debug, Default)]
pub struct Rasters {
    /// The distribution.
    pub plot: Option<Raster>,
    /// The masks, each with what it shows and where its place begins inside the pane.
    pub masks: Vec<(MaskView, Rect, Raster)>,
    /// Share of the values below and above the clip borders.
    pub clipped: (f64, f64),
    plot_key: Option<(Identity, Rect, Plot)>,
    masks_key: Option<(Identity, Vec<(MaskView, Rect)>)>,
}

/// Which answer of the session a picture was made from: its address and generation.
type Identity = (usize, u64);

impl App {
    /// Makes everything ready for a frame of this size.
    pub fn prepare(&mut self, area: Rect) {
        self.area = area;
        let screen = Screen::of(area, self.focus, self.tab, self.zoomed);
        if let Some(rect) = screen.rect(Pane::Layers) {
            self.layers.page = layers_page(rect);
        }
        self.layers.clamp();
        self.choice = self.choice.min(self.choices().len().saturating_sub(1));
        let page = screen.rect(Pane::Quantizers).map_or(0, choices_page);
        self.choice_offset = scrolled(self.choice_offset, self.choice, page, self.choices().len());
        self.prepare_plot(screen.rect(Pane::Histogram));
        self.prepare_masks(screen.rect(Pane::Samples));
    }

    fn prepare_plot(&mut self, rect: Option<Rect>) {
        let (Some(rect), Some(detail)) = (rect, self.site_detail()) else { return };
        let area = histogram_area(rect);
        let key = ((std::ptr::from_ref(detail) as usize, detail.generation), area, self.plot);
        if self.rasters.plot_key == Some(key) {
            return;
        }
        let clipped = clipped(detail);
        let raster =
            if self.plot.channels { heat(detail, area, self) } else { plot(detail, clipped, area, self) };
        self.rasters.plot = Some(raster);
        self.rasters.clipped = clipped;
        self.rasters.plot_key = Some(key);
    }

    fn prepare_masks(&mut self, rect: Option<Rect>) {
        let (Some(rect), Some(shown)) = (rect, self.shown.clone()) else { return };
        let Some(size) = shown.picture.as_ref().map(|picture| (picture.width, picture.height)) else {
            self.rasters.masks.clear();
            self.rasters.masks_key = None;
            return;
        };
        let areas = if shown.full_precision.mask().is_some() {
            picture_areas(rect, self.masks, size)
        } else {
            vec![(MaskView::Truth, picture_beside(rect, size))]
        };
        let key = ((Arc::as_ptr(&shown) as usize, shown.generation), areas);
        if self.rasters.masks_key.as_ref() == Some(&key) {
            return;
        }
        self.rasters.masks = key
            .1
            .iter()
            .map(|(view, area)| (*view, *area, mask_raster(&shown, *view, *area, self)))
            .collect();
        self.rasters.masks_key = Some(key);
    }
}

fn plot(detail: &SiteDetail, clipped: (f64, f64), area: Rect, app: &App) -> Raster {
    let histogram = if app.plot.log_values { &detail.logarithmic } else { &detail.linear };
    // The de-quantized counts share the linear borders only.
    let dequantized = detail.dequantized.as_ref().filter(|_| app.plot.dequantized && !app.plot.log_values);
    // On the axis of magnitudes both ends of the grid lie on the right.
    let clip = if app.plot.log_values { None } else { detail.clip };
    Histogram {
        edges: &histogram.edges,
        counts: &histogram.counts,
        dequantized: dequantized.map(|histogram| histogram.counts.as_slice()),
        levels: &detail.levels,
        clip,
        clipped,
        log_values: app.plot.log_values,
        log_counts: app.plot.log_counts,
    }
    .raster(area, &app.theme)
}

fn heat(detail: &SiteDetail, area: Rect, app: &App) -> Raster {
    let first = detail.linear.edges.first().copied().unwrap_or(0.0);
    let last = detail.linear.edges.last().copied().unwrap_or(1.0);
    Heat {
        shares: &detail.heat,
        rows: detail.heat_rows,
        columns: detail.heat_columns,
        channels: &detail.channels,
        range: (first, last),
    }
    .raster(area, &app.theme)
}

/// The first line of a list that moves only as far as its cursor needs.
fn scrolled(first: usize, cursor: usize, page: usize, length: usize) -> usize {
    let lowest = (cursor + 1).saturating_sub(page.max(1));
    first.clamp(lowest, cursor.max(lowest)).min(length.saturating_sub(page))
}

/// Share of the values below and above the clip borders; an interval on a border counts by its part outside.
fn clipped(detail: &SiteDetail) -> (f64, f64) {
    let Some((low, high)) = detail.clip else { return (0.0, 0.0) };
    let (low, high) = (f64::from(low), f64::from(high));
    let total: f64 = detail.linear.counts.iter().sum();
    let (mut below, mut above) = (0.0, 0.0);
    for (pair, count) in detail.linear.edges.windows(2).zip(&detail.linear.counts) {
        let [left, right] = pair else { continue };
        let (left, right) = (f64::from(*left), f64::from(*right));
        let width = (right - left).max(f64::MIN_POSITIVE);
        below += count * ((low.min(right) - left).max(0.0) / width);
        above += count * ((right - high.max(left)).max(0.0) / width);
    }
    if total > 0.0 { (below / total, above / total) } else { (0.0, 0.0) }
}

fn mask_raster(shown: &SampleView, view: MaskView, area: Rect, app: &App) -> Raster {
    let Some(picture) = &shown.picture else { return Raster::new(0, 0) };
    let pixels = Pixels { size: (picture.width, picture.height), rgb: &picture.rgb };
    let plain = || overlay(pixels, None, area, &app.theme);
    let with = |mask: &BinaryMask, tint: Tint| {
        let inside = |x: usize, y: usize| mask.get(x as u32, y as u32);
        let mask = Mask { size: (mask.width() as usize, mask.height() as usize), inside: &inside };
        overlay(pixels, Some((&mask, tint)), area, &app.theme)
    };
    let of = |answer: Option<&Answer>, tint| {
        answer.and_then(Answer::mask).map_or_else(plain, |mask| with(mask, tint))
    };
    match view {
        MaskView::Truth | MaskView::All => of(shown.truth.as_ref(), Tint::Truth),
        MaskView::Float => of(Some(&shown.full_precision), Tint::Float),
        MaskView::Quantized => of(Some(&shown.quantized), Tint::Quantized),
        MaskView::Difference => {
            let (Some(before), Some(after)) = (shown.full_precision.mask(), shown.quantized.mask()) else {
                return plain();
            };
            let float = |x: usize, y: usize| before.get(x as u32, y as u32);
            let quantized = |x: usize, y: usize| after.get(x as u32, y as u32);
            let size = |mask: &BinaryMask| (mask.width() as usize, mask.height() as usize);
            difference(
                pixels,
                &Mask { size: size(before), inside: &float },
                &Mask { size: size(after), inside: &quantized },
                area,
                &app.theme,
            )
        }
    }
}
