//! Explanations in sentences.

use super::confirm::{Confirmation, Outcome};
use super::faults::Fault;
use super::groups::{Change, Group};
use super::model::ModelExplanation;
use super::remedy::Remedy;
use super::site::{Advice, Present, SiteExplanation};
use crate::quantizer::{Family, Granularity, Scheme};
use crate::stats::{Ranks, Sketch, short};
use crate::terms::{Bits, Class};

/// What is said first of a site of a layer that no result depends on.
pub(super) const NOT_USED: &str =
    "Not used: no result of the model depends on this layer, so nothing that is done to it has an effect.";
/// A range outside calibration's by this share of it is worth a word.
const BEYOND: f64 = 0.25;

/// `12.3 dB`, with a minus sign of text.
pub(super) fn db(x: f64) -> String {
    format!("{x:.1} dB").replace('-', "−")
}

/// `+12.3 dB`.
pub(super) fn gain(x: f64) -> String {
    format!("{x:+.1} dB").replace('-', "−")
}

/// `1.3 %`; small shares keep a digit.
pub(super) fn percent(share: f64) -> String {
    let p = share * 100.0;
    if p == 0.0 {
        "none".to_owned()
    } else if p < 0.01 {
        "less than 0.01 %".to_owned()
    } else if p < 1.0 {
        format!("{p:.2} %")
    } else if p < 10.0 {
        format!("{p:.1} %")
    } else {
        format!("{p:.0} %")
    }
}

fn at_bits(scheme: &Scheme, bits: Bits) -> String {
    format!("{scheme} at {bits} bits")
}

fn rewrites(all: &[(String, String)]) -> String {
    all.iter().map(|(word, layer)| format!("{word} at {layer}")).collect::<Vec<_>>().join(" and ")
}

/// What is wrong, and what the right would give.
pub(super) fn fault(fault: &Fault, made: &SiteExplanation, sketch: &Sketch) -> String {
    let Some(present) = &made.present else { return String::new() };
    let now = db(present.sqnr_db);
    match fault {
        Fault::TooFewBits { best_db, enough, enough_db } => format!(
            "Too few bits: with {} no quantizer gets beyond {}, so noise is more than a quarter of the signal. {enough} bits \
             would give {}.",
            present.bits,
            db(*best_db),
            db(*enough_db)
        ),
        Fault::WrongRange { scheme, better_db, clipped, levels_used, stale } => {
            let what = if clipped[0] > 2.0 * clipped[1] && clipped[0] > 1e-4 {
                format!("{} of the values are clipped", percent(clipped[0]))
            } else if levels_used[0] < levels_used[1] {
                format!("only {} of {} levels are in use", levels_used[0], present.levels)
            } else if let Some(crowded) = present.crowded_levels {
                format!("nine of ten values share {crowded} of {} levels", present.levels)
            } else {
                "the range does not suit the values".to_owned()
            };
            let how = if *stale { " fitted anew" } else { "" };
            let gained = better_db - present.sqnr_db;
            format!(
                "Wrong range: {what} ({now}). {scheme}{how} gives {}, {gained:.1} dB more.",
                db(*better_db)
            )
        }
        Fault::WrongQuantizer { scheme, better_db } => format!(
            "Wrong quantizer: {} ({now}). {scheme} at the same bits gives {}, {:.1} dB more.",
            unsuited(present, scheme, made, sketch),
            db(*better_db),
            better_db - present.sqnr_db
        ),
        Fault::BadRewrite { rewrites: all, without_db, fitted_db } => {
            let mut text = format!(
                "Bad rewrite: {} leaves this site {now}; without it the values had {}",
                rewrites(all),
                db(*without_db)
            );
            if let Some(fitted) = fitted_db {
                text.push_str(&format!(", with numbers from a fit {}", db(*fitted)));
            }
            text.push('.');
            text
        }
        Fault::SwappedScales { with, better_db, other_db } => format!(
            "Swapped scales: the parameters of this operand fit the other one. With those of {with} it has {} instead of \
             {now}, and {} has {} instead of {}.",
            db(*better_db),
            with.slot,
            db(other_db[1]),
            db(other_db[0])
        ),
        Fault::CalibrationMismatch { clipped, held_out_db } => format!(
            "Calibration mismatch: {} of the held-out values are clipped, {} of those it was fitted on; {} there, {now} \
             here. The calibration set does not show what the samples hold.",
            percent(clipped[1]),
            percent(clipped[0]),
            db(*held_out_db)
        ),
    }
}

/// Why a quantizer does not suit a site that another one suits much better.
fn unsuited(present: &Present, better: &Scheme, made: &SiteExplanation, sketch: &Sketch) -> String {
    let (scheme, e) = (&present.scheme, &made.evidence);
    let negative = || {
        let ranks = Ranks::new(sketch);
        let below: u64 = ranks.buckets().iter().filter(|b| b.hi <= 0.0 && b.lo < 0.0).map(|b| b.count).sum();
        below as f64 / ranks.len().max(1) as f64
    };
    let only_positive = matches!(
        scheme.family,
        Family::Log2
            | Family::LogSqrt2
            | Family::Agq
            | Family::Lnq
            | Family::LogIntSoftmax
            | Family::DrqSoftmax
    );
    if only_positive && sketch.min() < 0.0 {
        return format!(
            "{} has no level below zero, where {} of the values lie",
            scheme.family,
            percent(negative())
        );
    }
    if matches!(scheme.family, Family::Log2 | Family::LogSqrt2 | Family::LogIntSoftmax) {
        return format!(
            "the levels of {} are far apart where the values are large, and bits do not mend that",
            scheme.family
        );
    }
    if scheme.granularity == Granularity::Tensor && better.granularity == Granularity::Channel {
        return format!(
            "one grid serves all {} channels, of which the furthest reaches {} times as far as the middle one",
            e.channels,
            short(e.channel_ratio)
        );
    }
    let shape = match made.class {
        Class::PowerLaw => format!(
            "half of the values lie below {}, the largest is {}",
            short(e.quantiles[2]),
            short(e.quantiles[4])
        ),
        Class::OneSided if scheme.symmetric => {
            "nearly all values lie on one side of zero, and a symmetric grid has as many levels on the other"
                .to_owned()
        }
        Class::Bimodal => "the levels between the two peaks hold next to nothing".to_owned(),
        Class::OutlierChannel => format!("{} channels reach far beyond the others", e.outlier_channels.len()),
        _ => match present.crowded_levels {
            Some(crowded) => format!("nine of ten values share {crowded} of {} levels", present.levels),
            None => format!("{} values have another shape than its grid", made.class),
        },
    };
    format!("{scheme} on {} values: {shape}", made.role)
}

/// What a remedy would give.
pub(super) fn advice(remedy: &Remedy, gain_db: Option<f64>, present: &Scheme) -> String {
    let gives = gain_db.map_or_else(String::new, |db| format!(": {}", gain(db)));
    match remedy {
        Remedy::Quantizer { scheme, bits: None } if scheme == present => {
            format!("{scheme}, fitted anew{gives}.")
        }
        Remedy::Quantizer { scheme, bits: None } => format!("{scheme} at the same bits{gives}."),
        Remedy::Quantizer { scheme, bits: Some(bits) } => format!("{}{gives}.", at_bits(scheme, *bits)),
        Remedy::Exchange { with } => format!("Exchange the parameters with those of {with}{gives}."),
        Remedy::Rewrite { rewrite, layer } => format!("Switch on {rewrite} at {layer}{gives}."),
        Remedy::WithoutRewrites { rewrites: all } => format!("Switch off {}{gives}.", rewrites(all)),
        Remedy::RewritesAnew { rewrites: all } => {
            format!("Find the numbers of {} anew{gives}.", rewrites(all))
        }
        Remedy::Recalibrate => "Calibrate on samples like those it is evaluated on.".to_owned(),
    }
}

/// A site in full precision, whose choices have some bits.
pub(super) fn float(made: &SiteExplanation, bits: Bits) -> Option<String> {
    let (best, last) = (made.choices.first()?, made.choices.last()?);
    Some(format!(
        "It stays in full precision. At {bits} bits {} would give {}, the best of {} choices; the worst, {}, {}.",
        best.quantizer,
        db(best.sqnr_db),
        made.choices.len(),
        last.quantizer,
        db(last.sqnr_db)
    ))
}

/// Puts together all sentences; the distribution's is there already.
pub(super) fn tell(made: &mut SiteExplanation) {
    let Some(present) = &made.present else { return };
    let mut all: Vec<String> = made.faults.iter().map(|fault| fault.sentence.clone()).collect();
    all.append(&mut made.sentences);
    all.push(quantizer(present));
    all.extend(waste(present));
    if made.remedies.is_empty() {
        all.push("Nothing that is known would help by a decibel at these bits.".to_owned());
    } else {
        let advice: Vec<String> =
            made.remedies.iter().map(|advice: &Advice| advice.sentence.clone()).collect();
        all.push(format!("Would help: {}", advice.join(" ")));
    }
    for choice in &made.rewrites {
        if let Some(weight) = choice.weight_gain_db.filter(|db| db.abs() >= 1.0) {
            let on = if choice.on { "is on" } else { "is off" };
            all.push(format!(
                "{} ({on}) changes the weight behind it by {}, as the layer's output sees it.",
                choice.rewrite,
                gain(weight)
            ));
        }
    }
    all.extend(held_out(made));
    made.sentences = all;
}

fn quantizer(present: &Present) -> String {
    let mut text = format!("{} gives {}", at_bits(&present.scheme, present.bits), db(present.sqnr_db));
    text.push_str(&format!(
        "; {} of {} levels are in use",
        present.levels_used.min(present.levels),
        present.levels
    ));
    text.push_str(&match present.clipped_fraction {
        0.0 => ", nothing is clipped.".to_owned(),
        share => format!(", {} of the values are clipped.", percent(share)),
    });
    text
}

/// Levels spent on little.
fn waste(present: &Present) -> Option<String> {
    let (crowded, middle) = (present.crowded_levels?, present.empty_middle_levels.unwrap_or(0));
    let mut parts = Vec::new();
    if crowded * 4 <= present.levels {
        parts.push(format!("nine of ten values share {crowded} levels"));
    }
    if middle * 8 >= present.levels {
        parts.push(format!("{middle} levels lie in the empty middle between the peaks"));
    }
    let unused = present.levels.saturating_sub(present.levels_used);
    if unused * 4 >= present.levels {
        parts.push(format!("{unused} levels have no value"));
    }
    (!parts.is_empty()).then(|| format!("Of {} levels: {}.", present.levels, parts.join("; ")))
}

/// Whether held-out samples are like calibration.
fn held_out(made: &SiteExplanation) -> Option<String> {
    let held_out = made.held_out.as_ref().filter(|held_out| !held_out.disagrees)?;
    let [low, high] = held_out.calibration_range.map(f64::from);
    let [least, most] = held_out.range.map(f64::from);
    let width = high - low;
    if low - least > BEYOND * width || most - high > BEYOND * width {
        return Some(format!(
            "Held-out samples reach from {} to {}, calibration from {} to {}.",
            short(least),
            short(most),
            short(low),
            short(high)
        ));
    }
    let same = present_db(made).is_some_and(|now| (now - held_out.sqnr_db).abs() < 1.0);
    Some(if same {
        "Held-out samples look like calibration.".to_owned()
    } else {
        format!("On held-out samples it gives {}.", db(held_out.sqnr_db))
    })
}

fn present_db(made: &SiteExplanation) -> Option<f64> {
    made.present.as_ref().map(|present| present.sqnr_db)
}

/// The number alone.
fn decibels(x: f64) -> String {
    format!("{x:.1}").replace('-', "−")
}

/// Four decimals, of a small one four digits.
fn loss(x: f64) -> String {
    if x != 0.0 && x.abs() < 0.01 { format!("{x:.3e}").replace('-', "−") } else { format!("{x:.4}") }
}

/// What runs showed.
pub(super) fn confirmation(made: &Confirmation) -> String {
    let metric = made.metric;
    let told = |[before, after]: [&Outcome; 2]| {
        let figure = match (before.truth, after.truth) {
            (Some(before), Some(after)) => format!("{metric} {before:.4} → {after:.4}"),
            _ => format!("agreement ({metric}) {:.4} → {:.4}", before.agreement, after.agreement),
        };
        format!("{figure}, output loss {} → {}", loss(before.output_loss), loss(after.output_loss))
    };
    let site = match (made.predicted_db, made.measured_db) {
        ([Some(before), Some(after)], [Some(now), Some(then)]) => format!(
            "the site {} → {} (predicted {} → {}); ",
            decibels(now),
            db(then),
            decibels(before),
            db(after)
        ),
        _ => String::new(),
    };
    let (plan, alone) = ([&made.before, &made.after], [&made.alone[0], &made.alone[1]]);
    let better = |[before, after]: [&Outcome; 2]| after.output_loss < before.output_loss;
    let verdict = match (better(plan), better(alone)) {
        (true, true) => "confirmed",
        (false, true) => "confirmed for the site; under this plan the noise of other sites hides it",
        (true, false) => "not confirmed for the site, though the plan comes closer to full precision",
        (false, false) => "not confirmed",
    };
    let plural = if made.samples == 1 { "" } else { "s" };
    format!(
        "{} on {} sample{plural}: {site}under the plan {}; with nothing else quantized {}: {verdict}.",
        made.remedy.label(),
        made.samples,
        told(plan),
        told(alone)
    )
}

/// What many sites share.
pub(super) fn group(group: &Group) -> String {
    let [least, most] = group.gain_db;
    let gains = if most - least < 0.5 { gain(most) } else { format!("{least:+.0} to {most:+.0} dB") };
    let count = group.sites.len();
    let sites =
        if count == 1 { format!("1 {} site", group.role) } else { format!("{count} {} sites", group.role) };
    match &group.change {
        Change::Quantizer(scheme) => format!("{sites}: {scheme} at the same bits gives {gains}."),
        Change::Rewrite(word) => format!("{sites}: {word} gives {gains}."),
    }
}

/// The whole model.
pub(super) fn model(made: &ModelExplanation) -> Vec<String> {
    let mut all = Vec::new();
    match made.sites.first() {
        None => all.push("Nothing is quantized.".to_owned()),
        Some(worst) => {
            let by = if made.ranked_by == "ranking" { "by its effect" } else { "by predicted SQNR" };
            let present = worst.present.as_ref().map_or(0.0, |present| present.sqnr_db);
            all.push(format!(
                "{} sites are quantized; the worst {by} is {} ({}).",
                made.sites.len(),
                worst.site,
                db(present)
            ));
        }
    }
    for faulty in &made.faults {
        let first: Vec<String> = faulty.sites.iter().take(3).map(ToString::to_string).collect();
        let more = faulty.sites.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        all.push(format!("{}: {}{more}.", title(faulty.fault), first.join(", ")));
    }
    all.extend(made.groups.iter().map(|group| group.sentence.clone()));
    all.extend(made.swapped_text.iter().map(|text| text.sentence.clone()));
    all.extend(made.swapped_text_left_out.map(|why| format!("Swapped sentences were not run: {why}.")));
    all
}

/// The word of a fault at the beginning of a sentence.
fn title(word: &str) -> String {
    let text = word.replace('-', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
