//! From sketches to bytes.

use super::{FORMAT, Header, PRIORITIES, ROWS, SiteHeader, StatsFile};
use crate::export::sorted_header;
use crate::stats::error::StatsError;
use crate::stats::exact::Exact;
use crate::stats::extremes::CHANNEL_TAIL;
use crate::stats::sketch::Sketch;
use crate::terms::{Role, SiteId};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;

/// A tensor before it becomes a view: name, type, shape, bytes.
type Owned = (String, Dtype, Vec<usize>, Vec<u8>);

pub(super) fn encode(file: &StatsFile, context: &str) -> Result<Vec<u8>, StatsError> {
    let failed = |problem: String| StatsError::Format { context: context.to_owned(), problem };
    let mut owned = Vec::new();
    let mut sites = Vec::new();
    for (at, (site, (role, sketch))) in file.sites.iter().enumerate() {
        sites.push(header(site, *role, sketch));
        tensors(at, sketch, &mut owned);
    }
    let header = Header {
        model: file.model_fingerprint.clone(),
        calibration: file.calibration_fingerprint.clone(),
        samples: file.samples.clone(),
        sites,
    };
    let header = serde_json::to_string(&header).map_err(|error| failed(error.to_string()))?;
    let metadata =
        HashMap::from([("format".to_owned(), FORMAT.to_owned()), ("statistics".to_owned(), header)]);
    let views = owned
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| failed(error.to_string()))?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| failed(error.to_string()))?;
    sort_metadata(&bytes).ok_or_else(|| failed("the header could not be put in order".to_owned()))
}

/// The same file with its metadata in order.
fn sort_metadata(bytes: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut header = sorted_header(header)?;
    // The data stay aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    Some([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
}

fn header(site: &SiteId, role: Role, sketch: &Sketch) -> SiteHeader {
    let special = sketch.special;
    SiteHeader {
        site: site.clone(),
        role,
        count: sketch.count,
        zero: special.zero,
        negative_zero: special.negative_zero,
        nan: special.nan,
        infinite: special.infinite,
        negative_infinite: special.negative_infinite,
        pages: sketch.pages.used().map(|(page, _)| page).collect(),
    }
}

fn tensors(at: usize, sketch: &Sketch, owned: &mut Vec<Owned>) {
    let channels = sketch.channels();
    let pages: Vec<u8> =
        sketch.pages.used().flat_map(|(_, counts)| counts.into_iter().flat_map(u64::to_le_bytes)).collect();
    let mut push =
        |name: &str, dtype, shape, bytes| owned.push((format!("{at}.{name}"), dtype, shape, bytes));
    push("pages", Dtype::U64, vec![pages.len() / 2048, 256], pages);
    let of = &sketch.channels;
    push("finite", Dtype::U64, vec![channels], of.finite.iter().flat_map(|n| n.to_le_bytes()).collect());
    for (name, sums) in [("sum", &of.sum), ("squares", &of.squares)] {
        let bytes = sums.iter().flat_map(Exact::to_bytes).collect();
        push(name, Dtype::U8, vec![channels, Exact::BYTES], bytes);
    }
    for (name, tops) in [("top", &of.top), ("bottom", &of.bottom)] {
        let bytes = tops.iter().flat_map(|top| *top.slots()).flat_map(f32::to_le_bytes).collect();
        push(name, Dtype::F32, vec![channels, CHANNEL_TAIL], bytes);
    }
    for (name, tail) in [("largest", &sketch.tails[0]), ("smallest", &sketch.tails[1])] {
        let values = tail.descending();
        push(name, Dtype::F32, vec![values.len()], values.iter().flat_map(|x| x.to_le_bytes()).collect());
    }
    if let Some(rows) = &sketch.rows {
        let (priorities, values) = rows.parts();
        let bytes = priorities.iter().flat_map(|priority| priority.to_le_bytes()).collect();
        push(PRIORITIES, Dtype::U64, vec![priorities.len()], bytes);
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        push(ROWS, Dtype::F32, vec![priorities.len(), channels], bytes);
    }
}
