//! From what was said on the command line to an open session.

use std::path::PathBuf;

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::{Method, MethodBits, Protocol, method};
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::quantizer::{Family, RangeSearch};
use bitloupe_quant::session::{FittedPlan, Options, Session};
use bitloupe_quant::terms::{Bits, Slot};
use color_eyre::eyre::{Result, eyre};

use crate::cli::{MethodArgs, ModelArgs};

/// The files of a model that was asked for.
pub fn model_files(args: &ModelArgs) -> Result<ModelFiles> {
    if let Some(path) = &args.model {
        return Ok(ModelFiles::Path(path.clone()));
    }
    let bundled = bitloupe_samples::bundled();
    let chosen = match &args.sample {
        None => &bundled[0],
        Some(name) => bundled.iter().find(|b| b.name == name).ok_or_else(|| {
            let names: Vec<&str> = bundled.iter().map(|b| b.name).collect();
            eyre!("there is no bundled model `{name}`; there are {}", names.join(", "))
        })?,
    };
    let replace = chosen.replacements()?;
    Ok(ModelFiles::Embedded { name: chosen.name, label: chosen.label, files: chosen.files, replace })
}

/// Options of a session.
pub fn options(args: &ModelArgs, calibration: Option<PathBuf>, samples: Option<PathBuf>) -> Result<Options> {
    let (threads, cache_bytes) = (args.threads, args.cache);
    Ok(Options { calibration, samples, threads, cache_bytes, ..Options::new(model_files(args)?) })
}

/// A session, opened here and now.
pub fn session(args: &ModelArgs, calibration: Option<PathBuf>, samples: Option<PathBuf>) -> Result<Session> {
    let session = Session::open(&options(args, calibration, samples)?)?;
    for warning in session.warnings()? {
        eprintln!("warning: {warning}");
    }
    Ok(session)
}

/// Bits as said: 2 to 8, 16, or float.
pub fn bits(text: &str) -> Result<Bits> {
    if matches!(text, "float" | "fp") {
        return Ok(Bits::FLOAT);
    }
    let number =
        text.parse::<u8>().map_err(|_| eyre!("`{text}` is no bit width; give 2 to 8, 16 or float"))?;
    Ok(Bits::new(number)?)
}

/// The plan of a method.
pub fn method_plan(session: &Session, args: &MethodArgs) -> Result<Plan> {
    let method = args.method.as_deref().unwrap_or("minmax");
    let own = |text: &Option<String>| text.as_deref().map(bits).transpose();
    let bits = MethodBits {
        weights: bits(&args.weights)?,
        activations: bits(&args.activations)?,
        patch_embedding: own(&args.patch_bits)?,
        last: own(&args.last_bits)?,
        softmax: own(&args.softmax_bits)?,
    };
    let mut plan = session.method_plan(method, &bits).ok_or_else(|| {
        let known: Vec<&str> = Session::methods().collect();
        eyre!("there is no method `{method}`; there are {}", known.join(", "))
    })?;
    let range: Option<RangeSearch> = args.weight_range.as_deref().map(str::parse).transpose()?;
    if let Some(range) = range.as_ref().filter(|range| !args.exact && range.on_values() != **range) {
        return Err(eyre!("--weight-range {range} looks at the calibration samples; give --exact, too"));
    }
    for id in session.site_ids() {
        let Some(SitePlan::Quantized { scheme, bits, .. }) = plan.site(&id) else { continue };
        let (mut scheme, bits) = (scheme.clone(), *bits);
        scheme.paper |= args.paper;
        let weight = id.slot == Slot::Weight && scheme.family == Family::Uniform;
        if let Some(range) = range.as_ref().filter(|_| weight) {
            scheme.range = range.clone();
        }
        plan.set(&id, Some(SitePlan::unfitted(scheme, bits)));
    }
    Ok(plan)
}

/// A plan read from a file and checked against the model.
pub fn plan(session: &Session, path: &std::path::Path) -> Result<Plan> {
    let plan = Plan::read(path)?;
    session.check_plan(&path.display().to_string(), &plan)?;
    Ok(plan)
}

/// Fits a plan; the session is calibrated first if a site needs it.
pub fn fit(session: &Session, plan: &Plan) -> Result<FittedPlan> {
    use bitloupe_quant::plan::SitePlan;
    let unfitted = plan.sites().any(|(_, s)| matches!(s, SitePlan::Quantized { params: None, .. }));
    if unfitted && session.stats().is_none() {
        calibrate(session)?;
    }
    Ok(session.fit_plan(plan)?)
}

/// Makes and fits the plan of a method.
pub fn fit_method(session: &Session, args: &MethodArgs) -> Result<FittedPlan> {
    let plan = method_plan(session, args)?;
    let protocol = method(&plan.method).map_or(Protocol::Parallel, Method::protocol);
    if protocol == Protocol::OutputLoss {
        if session.stats().is_none() {
            calibrate(session)?;
        }
        return Ok(session.fit_plan_by_output(&plan, &Cancel::default(), progress("fitting"))?);
    }
    if args.exact { fit_on_samples(session, &plan, protocol) } else { fit(session, &plan) }
}

/// Takes and fits a ready-made plan, as the program offers them under `presets`.
pub fn fit_preset(session: &Session, name: &str, exact: bool) -> Result<FittedPlan> {
    let plan = session.preset(name).ok_or_else(|| {
        let known: Vec<String> = session.preset_names().map(|name| format!("\"{name}\"")).collect();
        eyre!("there is no preset `{name}` for this model; there are {}", known.join(", "))
    })?;
    if exact { fit_on_samples(session, &plan, Protocol::Parallel) } else { fit(session, &plan) }
}

/// Fits a plan on the calibration samples themselves.
pub fn fit_on_samples(session: &Session, plan: &Plan, protocol: Protocol) -> Result<FittedPlan> {
    if session.stats().is_none() {
        calibrate(session)?;
    }
    Ok(session.fit_plan_on_samples(plan, protocol, &Cancel::default(), progress("fitting"))?)
}

/// Gathers sketches, with progress on standard error when a person is there.
pub fn calibrate(session: &Session) -> Result<()> {
    session.calibrate(&Cancel::default(), progress("calibrating"))?;
    Ok(())
}

/// Progress on one line of standard error, if that is a terminal.
pub fn progress(what: &'static str) -> impl FnMut(usize, usize) {
    use std::io::{IsTerminal, Write};
    let shown = std::io::stderr().is_terminal();
    let start = std::time::Instant::now();
    move |done, total| {
        if !shown {
            return;
        }
        let mut err = std::io::stderr().lock();
        if done == total {
            let _ = write!(err, "\r\x1b[K");
        } else if done > 0 {
            let left = start.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
            let _ = write!(err, "\r{what} {done}/{total}, {left:.0} s left \x1b[K");
        }
        let _ = err.flush();
    }
}
