//! What is wrong with a site's quantizer, decided by rules over figures that were gathered before.

use serde::Serialize;

use super::remedy::Remedy;
use crate::quantizer::Scheme;
use crate::terms::{Bits, SiteId};

/// What a cause must explain, in dB of SQNR, to be a fault: one bit's worth.
pub const FAULT_DB: f64 = 6.0;
/// From this on the noise is 3 % of the signal's amplitude, and a quantizer that is merely not the best is no fault;
/// parameters that are wrong still are.
pub const HARMLESS_DB: f64 = 30.0;
/// Below this no grid is fine enough whatever its shape: the noise is more than a quarter of the signal's amplitude.
pub const FLOOR_DB: f64 = 12.0;
/// What more bits should reach: the noise is a tenth of the signal's amplitude.
pub const SOUND_DB: f64 = 20.0;
/// After an exchange each operand of a product must be this near to its own fit.
pub const EXCHANGED_DB: f64 = 3.0;
/// Held-out samples disagree when this many times more of their values are clipped than in calibration, …
pub const MISMATCH_RATIO: f64 = 4.0;
/// … at least this share of them is, …
pub const MISMATCH_SHARE: f64 = 1e-3;
/// … and the SQNR there is lower by this and below [`HARMLESS_DB`].
pub const MISMATCH_DB: f64 = 3.0;

/// A cause of loss at a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// No quantizer of these bits reaches [`FLOOR_DB`]; more bits do.
    TooFewBits {
        /// The best of any quantizer at these bits.
        best_db: f64,
        /// Bits that would do.
        enough: Bits,
        /// What the same grid gives at those.
        enough_db: f64,
    },
    /// Another range of the same grid gains [`FAULT_DB`].
    WrongRange {
        /// The range that would be better.
        scheme: Scheme,
        /// What it gives.
        better_db: f64,
        /// Share of the values that is clipped now, and then.
        clipped: [f64; 2],
        /// Levels in use now, and then.
        levels_used: [u32; 2],
        /// Whether the range is not even the one that its own search finds.
        stale: bool,
    },
    /// A grid of another kind at the same bits gains [`FAULT_DB`] over the best range of this one, which stays below
    /// [`HARMLESS_DB`].
    WrongQuantizer {
        /// The better one.
        scheme: Scheme,
        /// What it gives.
        better_db: f64,
    },
    /// A rewrite changed the values, and without it, or with the numbers that a fit gives it, they would be better off
    /// by [`FAULT_DB`].
    BadRewrite {
        /// Which rewrites, and where.
        rewrites: Vec<(String, String)>,
        /// What the site has without them.
        without_db: f64,
        /// What it has with fitted numbers, where that is known.
        fitted_db: Option<f64>,
    },
    /// The parameters of a product's operands fit each other's values: both gain by an exchange, the product by
    /// [`FAULT_DB`], and then each is within [`EXCHANGED_DB`] of its own fit.
    SwappedScales {
        /// The other operand.
        with: SiteId,
        /// What this site has with the other's parameters.
        better_db: f64,
        /// What the other has now, and with this one's.
        other_db: [f64; 2],
    },
    /// Samples that were not calibrated on are clipped much more.
    CalibrationMismatch {
        /// Share clipped in calibration, and held out.
        clipped: [f64; 2],
        /// SQNR there.
        held_out_db: f64,
    },
}

impl Fault {
    /// Its word, as in JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooFewBits { .. } => "too-few-bits",
            Self::WrongRange { .. } => "wrong-range",
            Self::WrongQuantizer { .. } => "wrong-quantizer",
            Self::BadRewrite { .. } => "bad-rewrite",
            Self::SwappedScales { .. } => "swapped-scales",
            Self::CalibrationMismatch { .. } => "calibration-mismatch",
        }
    }
}

/// A fault with what it costs and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedFault {
    /// Which.
    #[serde(flatten)]
    pub fault: Fault,
    /// What it costs, in dB of SQNR, beyond the causes that were looked at before it (see [`find`]).
    pub cost_db: f64,
    /// What to do.
    pub remedy: Remedy,
    /// For people.
    pub sentence: String,
}

/// One quantizer and what it gives.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) scheme: Scheme,
    pub(super) sqnr_db: f64,
    pub(super) clipped: f64,
    pub(super) levels_used: u32,
}

/// What the rules look at. All figures are dB of SQNR of the site in the same units.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    pub(super) present: Offer,
    /// The present scheme fitted anew.
    pub(super) anew: Option<f64>,
    /// The best range of the present grid.
    pub(super) range: Option<Offer>,
    /// The best grid of another kind.
    pub(super) other: Option<Offer>,
    /// The best range of the present grid at more bits, fewest first.
    pub(super) wider: Vec<(Bits, Scheme, f64)>,
    pub(super) rewrites: Option<RewriteFinding>,
    pub(super) exchange: Option<Exchange>,
    pub(super) held_out: Option<HeldOutFinding>,
}

/// The site without the rewrites that reach it.
#[derive(Debug, Clone)]
pub(super) struct RewriteFinding {
    pub(super) rewrites: Vec<(String, String)>,
    pub(super) without_db: f64,
    pub(super) fitted_db: Option<f64>,
}

/// Both operands of a product: what each has now, with the other's parameters, and with its own fit.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) with: SiteId,
    pub(super) own: [f64; 3],
    pub(super) other: [f64; 3],
}

/// Present parameters on samples that were not calibrated on.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldOutFinding {
    pub(super) sqnr_db: f64,
    pub(super) clipped: f64,
}

impl Exchange {
    /// What the product gains: the relative noise of its operands adds up.
    fn gain(&self) -> f64 {
        let both = |at: usize| {
            let noise = 10_f64.powf(-self.own[at] / 10.0) + 10_f64.powf(-self.other[at] / 10.0);
            -10.0 * noise.log10()
        };
        both(1) - both(0)
    }

    fn holds(&self) -> bool {
        let each = [self.own, self.other];
        self.gain() >= FAULT_DB
            && each.iter().all(|[now, then, fit]| then > now && *then >= fit - EXCHANGED_DB)
    }
}

/// All faults, the costliest first.
///
/// Causes are looked at in the order in which they are cheap to mend: exchanged operands, range, rewrites, quantizer,
/// bits. Each counts only for what it gains beyond those before it, so that a spoiled range is not blamed on the bits.
/// Held-out samples are looked at by themselves.
pub(super) fn find(f: &Findings) -> Vec<(Fault, f64, Remedy)> {
    let mut found = Vec::new();
    let now = f.present.sqnr_db;
    let mut reached = now;
    if let Some(exchange) = f.exchange.as_ref().filter(|exchange| exchange.holds()) {
        let fault = Fault::SwappedScales {
            with: exchange.with.clone(),
            better_db: exchange.own[1],
            other_db: [exchange.other[0], exchange.other[1]],
        };
        found.push((fault, exchange.gain(), Remedy::Exchange { with: exchange.with.clone() }));
        reached = reached.max(exchange.own[2]);
    }
    if let Some(range) = &f.range {
        if range.sqnr_db - reached >= FAULT_DB {
            let fault = Fault::WrongRange {
                scheme: range.scheme.clone(),
                better_db: range.sqnr_db,
                clipped: [f.present.clipped, range.clipped],
                levels_used: [f.present.levels_used, range.levels_used],
                stale: f.anew.is_some_and(|anew| anew - now >= FAULT_DB),
            };
            found.push((
                fault,
                range.sqnr_db - reached,
                Remedy::Quantizer { scheme: range.scheme.clone(), bits: None },
            ));
        }
        reached = reached.max(range.sqnr_db);
    }
    if let Some(rewrites) = &f.rewrites {
        let best = rewrites.fitted_db.map_or(rewrites.without_db, |db| db.max(rewrites.without_db));
        if best - reached >= FAULT_DB {
            let fault = Fault::BadRewrite {
                rewrites: rewrites.rewrites.clone(),
                without_db: rewrites.without_db,
                fitted_db: rewrites.fitted_db,
            };
            // Where fitted numbers do as well, the rewrite may stay.
            let stays = rewrites.fitted_db.is_some_and(|db| db >= rewrites.without_db);
            let remedy = if stays {
                Remedy::RewritesAnew { rewrites: rewrites.rewrites.clone() }
            } else {
                Remedy::WithoutRewrites { rewrites: rewrites.rewrites.clone() }
            };
            found.push((fault, best - reached, remedy));
        }
        reached = reached.max(best);
    }
    if let Some(other) = &f.other {
        if reached < HARMLESS_DB && other.sqnr_db - reached >= FAULT_DB {
            let fault = Fault::WrongQuantizer { scheme: other.scheme.clone(), better_db: other.sqnr_db };
            found.push((
                fault,
                other.sqnr_db - reached,
                Remedy::Quantizer { scheme: other.scheme.clone(), bits: None },
            ));
        }
        reached = reached.max(other.sqnr_db);
    }
    if reached < FLOOR_DB {
        let enough = f.wider.iter().find(|(.., db)| *db >= SOUND_DB).or(f.wider.last());
        if let Some((enough, scheme, enough_db)) =
            enough.filter(|(.., db)| *db >= FLOOR_DB && db - reached >= FAULT_DB)
        {
            let fault = Fault::TooFewBits { best_db: reached, enough: *enough, enough_db: *enough_db };
            let remedy = Remedy::Quantizer { scheme: scheme.clone(), bits: Some(*enough) };
            found.push((fault, enough_db - reached, remedy));
        }
    }
    if let Some(held_out) = f.held_out.filter(|held_out| disagrees(&f.present, held_out)) {
        let fault = Fault::CalibrationMismatch {
            clipped: [f.present.clipped, held_out.clipped],
            held_out_db: held_out.sqnr_db,
        };
        found.push((fault, now - held_out.sqnr_db, Remedy::Recalibrate));
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

/// What the remedy of a fault leads to, where that is known without a run.
pub(super) fn reached(fault: &Fault) -> Option<f64> {
    match fault {
        Fault::TooFewBits { enough_db, .. } => Some(*enough_db),
        Fault::WrongRange { better_db, .. }
        | Fault::WrongQuantizer { better_db, .. }
        | Fault::SwappedScales { better_db, .. } => Some(*better_db),
        Fault::BadRewrite { without_db, fitted_db, .. } => {
            Some(fitted_db.map_or(*without_db, |db| db.max(*without_db)))
        }
        Fault::CalibrationMismatch { .. } => None,
    }
}

/// See [`MISMATCH_RATIO`].
fn disagrees(calibration: &Offer, held_out: &HeldOutFinding) -> bool {
    held_out.clipped >= MISMATCH_SHARE
        && held_out.clipped >= MISMATCH_RATIO * calibration.clipped
        && calibration.sqnr_db - held_out.sqnr_db >= MISMATCH_DB
        && held_out.sqnr_db < HARMLESS_DB
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::{Family, RangeSearch};

    fn offer(sqnr_db: f64) -> Offer {
        let scheme = Scheme::new(Family::Uniform, RangeSearch::repq());
        Offer { scheme, sqnr_db, clipped: 0.0001, levels_used: 200 }
    }

    /// A site with nothing wrong: 40 dB at 8 bits.
    fn sound() -> Findings {
        Findings {
            present: offer(40.0),
            anew: Some(40.0),
            range: Some(offer(41.0)),
            other: Some(offer(42.0)),
            wider: vec![(Bits::new(16).unwrap(), offer(0.0).scheme, 88.0)],
            rewrites: None,
            exchange: None,
            held_out: Some(HeldOutFinding { sqnr_db: 39.0, clipped: 0.0002 }),
        }
    }

    fn words(findings: &Findings) -> Vec<&'static str> {
        find(findings).iter().map(|(fault, ..)| fault.word()).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_sound_site() {
        assert!(words(&sound()).is_empty());
    }

    #[test]
    fn a_range_is_wrong_from_six_decibels_on() {
        let mut f = sound();
        for (better, expected) in [(45.99, vec![]), (46.0, vec!["wrong-range"])] {
            f.range = Some(offer(better));
            f.other = None;
            assert_eq!(words(&f), expected, "{better}");
        }
        let stale = |f: &Findings| matches!(find(f)[0].0, Fault::WrongRange { stale, .. } if stale);
        assert!(!stale(&f));
        f.anew = Some(46.0);
        assert!(stale(&f));
    }

    #[test]
    fn a_quantizer_is_blamed_only_for_what_no_range_mends() {
        let mut f = sound();
        f.held_out = None;
        f.present = offer(15.0);
        f.range = Some(offer(25.0));
        f.other = Some(offer(30.9));
        assert_eq!(words(&f), ["wrong-range"]);
        f.other = Some(offer(31.0));
        assert_eq!(words(&f), ["wrong-range", "wrong-quantizer"]);
        f.range = Some(offer(17.0));
        assert_eq!(words(&f), ["wrong-quantizer"]);
        // What does no harm is no fault, however much better another one is.
        (f.present, f.range, f.other) = (offer(30.0), Some(offer(30.0)), Some(offer(60.0)));
        assert!(words(&f).is_empty());
        (f.present, f.range) = (offer(29.9), Some(offer(29.9)));
        assert_eq!(words(&f), ["wrong-quantizer"]);
    }

    #[test]
    fn bits_are_too_few_where_no_grid_of_them_reaches_the_floor() {
        let mut f = sound();
        let scheme = offer(0.0).scheme;
        let wider = [(3, 14.0), (4, 19.9), (5, 26.0), (8, 44.0)];
        f.wider = wider.map(|(bits, db)| (Bits::new(bits).unwrap(), scheme.clone(), db)).to_vec();
        (f.present, f.anew, f.range, f.held_out) = (offer(8.0), Some(8.0), Some(offer(9.0)), None);
        f.other = Some(offer(11.9));
        let found = find(&f);
        assert_eq!(found.len(), 1);
        assert!(
            matches!(found[0].0, Fault::TooFewBits { enough, .. } if enough.get() == Some(5)),
            "{found:?}"
        );
        // A grid of these bits that reaches the floor is the nearer remedy.
        f.other = Some(offer(12.0));
        assert!(words(&f).is_empty());
        f.other = Some(offer(15.0));
        assert_eq!(words(&f), ["wrong-quantizer"]);
        // Nothing is said about bits where more of them help no more than another grid.
        f.other = Some(offer(9.0));
        f.wider = vec![(Bits::new(16).unwrap(), scheme, 14.9)];
        assert!(words(&f).is_empty());
    }

    #[test]
    fn a_rewrite_is_bad_when_the_site_was_better_without_it_or_with_fitted_numbers() {
        let mut f = sound();
        f.other = None;
        let with = |without_db, fitted_db| {
            let rewrites = vec![("smoothing".to_owned(), "norm1".to_owned())];
            Some(RewriteFinding { rewrites, without_db, fitted_db })
        };
        for (without, fitted, expected) in [
            (46.9, None, vec![]),
            (47.0, None, vec!["bad-rewrite"]),
            (30.0, Some(46.9), vec![]),
            (30.0, Some(47.0), vec!["bad-rewrite"]),
        ] {
            f.rewrites = with(without, fitted);
            assert_eq!(words(&f), expected, "{without} {fitted:?}");
        }
        // What the rewrite costs is not blamed on the quantizer too.
        f.rewrites = with(70.0, None);
        f.other = Some(offer(72.0));
        assert_eq!(words(&f), ["bad-rewrite"]);
    }

    #[test]
    fn scales_are_swapped_when_both_gain_and_then_fit() {
        let mut f = sound();
        f.other = None;
        let with = "attn.qk:rhs".parse::<SiteId>().unwrap();
        let exchange = |own, other| Some(Exchange { with: with.clone(), own, other });
        f.present = offer(20.0);
        f.range = Some(offer(41.0));
        f.exchange = exchange([20.0, 40.0, 41.0], [30.0, 39.0, 40.0]);
        // The range is that of the other operand: not a fault of its own.
        assert_eq!(words(&f), ["swapped-scales"]);
        // The other operand would lose: it was only the range of this one.
        f.exchange = exchange([20.0, 40.0, 41.0], [40.0, 39.0, 40.0]);
        assert_eq!(words(&f), ["wrong-range"]);
        // Not near enough to the own fit.
        f.exchange = exchange([20.0, 37.9, 41.0], [30.0, 39.0, 40.0]);
        assert_eq!(words(&f), ["wrong-range"]);
        // The product gains too little.
        f.present = offer(37.0);
        f.exchange = exchange([37.0, 40.0, 41.0], [37.0, 40.0, 40.0]);
        assert!(words(&f).is_empty());
    }

    #[test]
    fn held_out_samples_disagree_by_share_ratio_and_loss_together() {
        let mut f = sound();
        (f.range, f.other) = (None, None);
        for (now, clipped, sqnr_db, expected) in [
            (28.0, 0.004, 25.0, vec!["calibration-mismatch"]),
            (28.0, 0.0039, 25.0, vec![]),
            (28.0, 0.004, 25.1, vec![]),
            (40.0, 0.004, 30.0, vec![]),
            (40.0, 0.004, 29.9, vec!["calibration-mismatch"]),
        ] {
            f.present = Offer { clipped: 0.001, ..offer(now) };
            f.held_out = Some(HeldOutFinding { sqnr_db, clipped });
            assert_eq!(words(&f), expected, "{now} {clipped} {sqnr_db}");
        }
        f.present = Offer { clipped: 0.0, ..offer(40.0) };
        f.held_out = Some(HeldOutFinding { sqnr_db: 20.0, clipped: 0.0009 });
        assert!(words(&f).is_empty());
    }

    #[test]
    fn the_costliest_comes_first() {
        let mut f = sound();
        f.present = offer(10.0);
        f.range = Some(offer(17.0));
        f.other = Some(offer(40.0));
        f.held_out = Some(HeldOutFinding { sqnr_db: 0.0, clipped: 0.5 });
        assert_eq!(words(&f), ["wrong-quantizer", "calibration-mismatch", "wrong-range"]);
    }
}
