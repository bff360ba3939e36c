//! `bitloupe fit`: one quantizer on one tensor.

use std::collections::BTreeMap;

use bitloupe_quant::eval::metrics::sqnr_db;
use bitloupe_quant::quantizer::{
    Batch, Distribution, Family, Params, Product, RangeSearch, Scheme, fit_channel_groups, quantizer,
};
use bitloupe_quant::stats::Sketch;
use bitloupe_quant::terms::{Bits, Layout};
use color_eyre::eyre::{Result, eyre};
use serde_json::json;

use super::{Outcome, print_json};
use crate::cli::Fit;
use crate::tensors::{self, Tensor};

/// Fits, quantizes, writes and prints.
pub fn run(args: &Fit) -> Result<Outcome> {
    let file = tensors::read(&args.file)?;
    let find = |name: &String| named(args, &file, name);
    let given: Vec<&Tensor> = args.tensor.iter().map(find).collect::<Result<_>>()?;
    let with: Vec<&Tensor> = args.with.iter().map(find).collect::<Result<_>>()?;
    if with.len() > 1 && with.len() != given.len() {
        return Err(eyre!("--with is given {} times; give it once or as often as --tensor", with.len()));
    }
    let scheme = scheme(args)?;
    let bits = Bits::new(args.bits)?;
    let batches: Vec<Batch<'_>> = given
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            let product = with.get(if with.len() == 1 { 0 } else { i }).map(|other| product(tensor, other));
            let layout = layout(args, scheme.family, tensor)?;
            Ok(Batch { values: &tensor.data, layout, product: product.transpose()? })
        })
        .collect::<Result<_>>()?;
    let (Some(tensor), Some(layout)) = (given.first(), batches.first().map(|batch| batch.layout)) else {
        return Err(eyre!("no tensor is named"));
    };
    let family = quantizer(scheme.family);
    let groups = groups(args, scheme.family)?;
    let fit = |data: &Distribution<'_>| match groups {
        Some(groups) => fit_channel_groups(data, &scheme, bits, groups),
        None => family.fit(data, &scheme, bits),
    };
    let mut params = if args.exact || args.paper {
        fit(&Distribution::Batches(&batches))?
    } else {
        let mut sketch = Sketch::sampling(layout.channels);
        for batch in &batches {
            sketch.observe(batch.values, batch.layout)?;
        }
        fit(&Distribution::Sketch(&sketch))?
    };
    for pair in args.set.iter().filter(|pair| groups.is_none() || !pair.starts_with(GROUPS)) {
        set(&mut params, pair)?;
    }
    params.check(layout)?;
    let mut quantized = tensor.data.clone();
    family.fake_quantize(&mut quantized, layout, &params);
    let mse = tensor.data.iter().zip(&quantized).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        / tensor.data.len().max(1) as f64;
    let sqnr = sqnr_db(&tensor.data, &quantized);
    let levels = family.levels(&params, 0);

    let mut out = BTreeMap::new();
    out.insert("quantized".to_owned(), Tensor { shape: tensor.shape.clone(), data: quantized });
    out.insert("levels".to_owned(), Tensor { shape: vec![levels.len()], data: levels });
    for (name, values) in params.parameters() {
        out.insert(name.to_owned(), Tensor { shape: vec![values.len()], data: values.to_vec() });
    }
    tensors::write(&args.output, &out)?;
    if args.json {
        let parameters: serde_json::Map<String, serde_json::Value> =
            params.parameters().into_iter().map(|(name, values)| (name.to_owned(), json!(values))).collect();
        print_json(&json!({
            "quantizer": params.scheme.to_string(),
            "bits": args.bits,
            "parameters": parameters,
            "mse": mse,
            "sqnr_db": sqnr,
        }))?;
    } else {
        say!("{} at {} bits: MSE {mse:.6e}, SQNR {sqnr:.2} dB", params.scheme, params.bits)?;
        for (name, values) in params.parameters() {
            let shown: Vec<String> = values.iter().take(4).map(ToString::to_string).collect();
            let more =
                if values.len() > 4 { format!(" … ({} in all)", values.len()) } else { String::new() };
            say!("  {name} = {}{more}", shown.join(", "))?;
        }
    }
    Ok(Outcome::Done)
}

/// A tensor of the file by its name.
fn named<'f>(args: &Fit, file: &'f BTreeMap<String, Tensor>, name: &str) -> Result<&'f Tensor> {
    file.get(name).ok_or_else(|| {
        let near = bitloupe_quant::plan::nearest(name, file.keys().map(String::as_str), 3);
        let near = if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
        eyre!("{}: no tensor `{name}`{near}", args.file.display())
    })
}

/// How `tensor` is multiplied by `other`: `[…, rows, inner] · […, inner, columns]` with the same leading dimensions,
/// else a weight `[out, inner]`.
fn product<'t>(tensor: &Tensor, other: &'t Tensor) -> Result<Product<'t>> {
    let (a, b) = (&tensor.shape, &other.shape);
    let last =
        |shape: &[usize], back: usize| shape.len().checked_sub(back).and_then(|at| shape.get(at)).copied();
    let (inner, rows, columns) = (last(a, 1), last(b, 2), last(b, 1));
    let same_heads = a.len() == b.len() && a.len() > 2 && a[..a.len() - 2] == b[..b.len() - 2];
    match (inner, rows, columns) {
        (Some(inner), Some(rows), Some(columns)) if same_heads && inner == rows => {
            Ok(Product { other: &other.data, inner, columns, transposed: false })
        }
        (Some(inner), Some(columns), Some(last)) if inner == last && b.len() == 2 => {
            Ok(Product { other: &other.data, inner, columns, transposed: true })
        }
        _ => Err(eyre!("--tensor of shape {a:?} cannot be multiplied by --with of shape {b:?}")),
    }
}

fn scheme(args: &Fit) -> Result<Scheme> {
    let family: Family = args.quantizer.parse()?;
    let range = match args.range.as_deref().unwrap_or_default() {
        "" => match (family.usual_range(), args.p) {
            (RangeSearch::Mse { .. }, Some(p)) => RangeSearch::Mse { p },
            (usual, _) => usual,
        },
        "minmax" | "min-max" => RangeSearch::MinMax,
        "percentile" if args.level.is_empty() => RangeSearch::repq(),
        "percentile" => RangeSearch::Percentile(args.level.clone()),
        "mse" => RangeSearch::Mse { p: args.p.unwrap_or(2.0) },
        other => other.parse()?,
    };
    if range.on_values() != range {
        return Err(eyre!(
            "`--range {range}` looks at whole layers; use it with `bitloupe plan new --exact`"
        ));
    }
    let mut scheme = Scheme::new(family, range);
    if args.symmetric {
        scheme = scheme.symmetric();
    }
    if args.levels == "released" && family != Family::Lnq {
        return Err(eyre!(
            "`--levels released` is for lnq; `--paper` is what other quantizers were released with"
        ));
    }
    if args.paper || args.levels == "released" {
        scheme = scheme.paper();
    }
    match args.granularity.as_str() {
        "tensor" if by_channel(family) => Ok(scheme.per_channel()),
        "tensor" => Ok(scheme),
        "channel" => Ok(scheme.per_channel()),
        "head" => Ok(scheme.per_head()),
        other => Err(eyre!("`{other}` is no granularity; give tensor, channel or head")),
    }
}

/// Whether the family is about what channels of an activation share, so that one of the whole tensor says nothing.
fn by_channel(family: Family) -> bool {
    matches!(family, Family::Ptf | Family::ChannelGroups)
}

/// How a number of groups is asked for.
const GROUPS: &str = "groups=";

/// The number of channel groups, which the fit must know.
fn groups(args: &Fit, family: Family) -> Result<Option<usize>> {
    let asked = args.set.iter().filter_map(|pair| pair.strip_prefix(GROUPS)).next_back();
    let Some(asked) = asked.filter(|_| family == Family::ChannelGroups) else { return Ok(None) };
    let number = asked.trim().parse().ok().filter(|&groups: &usize| groups > 0);
    number.map(Some).ok_or_else(|| eyre!("`{GROUPS}{asked}`: expected a number of groups, at least 1"))
}

/// The channel axis: as said; else the first of weights (`[out, in]`, `[out, in, k, k]`), the last of activations.
fn layout(args: &Fit, family: Family, tensor: &Tensor) -> Result<Layout> {
    let rank = tensor.shape.len();
    if rank == 0 || args.granularity == "tensor" && args.axis.is_none() && !by_channel(family) {
        return Ok(Layout::tensor(tensor.data.len()));
    }
    let weight = (rank == 2 || rank == 4) && !by_channel(family);
    let axis = args.axis.unwrap_or(match args.granularity.as_str() {
        // `[…, heads, rows, columns]`.
        "head" => -3,
        _ if weight => 0,
        _ => -1,
    });
    Ok(Layout::axis(&tensor.shape, axis)?)
}

/// Replaces a fitted parameter: `scale=0.1` or `zero_point=3,4,5`.
fn set(params: &mut Params, pair: &str) -> Result<()> {
    let (name, values) = pair.split_once('=').ok_or_else(|| eyre!("`{pair}`: expected NAME=VALUE"))?;
    let values = values
        .split(',')
        .map(|v| v.trim().parse::<f32>().map_err(|_| eyre!("`{pair}`: `{v}` is no number")))
        .collect::<Result<Vec<f32>>>()?;
    match name {
        "scale" => params.scale = values,
        "zero_point" => params.zero_point = values,
        _ if params.extra.contains_key(name) => {
            params.extra.insert(name.to_owned(), values);
        }
        _ => {
            let known: Vec<&str> = params.parameters().into_iter().map(|(n, _)| n).collect();
            return Err(eyre!("`{name}` is no parameter of this quantizer; it has {}", known.join(", ")));
        }
    }
    Ok(())
}
