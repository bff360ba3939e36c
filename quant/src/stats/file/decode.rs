//! From bytes of unknown origin to sketches.

use super::{FORMAT, Header, PRIORITIES, ROWS, SiteHeader, StatsFile};
use crate::stats::buckets::{PAGE, PAGES};
use crate::stats::channels::Channels;
use crate::stats::error::StatsError;
use crate::stats::exact::Exact;
use crate::stats::extremes::{CHANNEL_TAIL, Top, Tops};
use crate::stats::pages::Pages;
use crate::stats::rows::Rows;
use crate::stats::sketch::{Sketch, Special};
use crate::stats::sums::Sums;
use crate::stats::tail::{TAIL, Tail};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::BTreeSet;

/// Everything is allocated from tensors that are in `bytes`, so memory stays in proportion to the file.
pub(super) fn decode(bytes: &[u8], path: &str) -> Result<StatsFile, StatsError> {
    let failed = |problem: String| StatsError::Format { context: path.to_owned(), problem };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| failed(error.to_string()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| failed(error.to_string()))?;
    let text = |key: &str| metadata.metadata().as_ref().and_then(|map| map.get(key));
    if text("format").map(String::as_str) != Some(FORMAT) {
        return Err(failed(format!("not a statistics file: expected format {FORMAT}")));
    }
    let header = text("statistics").ok_or_else(|| failed("the header has no `statistics`".to_owned()))?;
    let header: Header =
        serde_json::from_str(header).map_err(|error| failed(format!("header `statistics`: {error}")))?;
    let mut file = StatsFile {
        model_fingerprint: header.model,
        calibration_fingerprint: header.calibration,
        samples: header.samples,
        ..StatsFile::default()
    };
    if let Some(sample) = repeated(&file.samples) {
        return Err(failed(format!("sample `{sample}` is listed twice")));
    }
    for (at, site) in header.sites.into_iter().enumerate() {
        let reader = Reader { tensors: &tensors, at, context: format!("{path}, site {}", site.site) };
        let sketch = reader.sketch(&site)?;
        if file.sites.insert(site.site, (site.role, sketch)).is_some() {
            return Err(reader.failed("the site is listed twice"));
        }
    }
    Ok(file)
}

fn repeated(samples: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    samples.iter().find(|sample| !seen.insert(sample.as_str()))
}

/// Reads the tensors of one site.
struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
    at: usize,
    context: String,
}

impl Reader<'_> {
    fn failed(&self, problem: impl Into<String>) -> StatsError {
        StatsError::Format { context: self.context.clone(), problem: problem.into() }
    }

    fn sketch(&self, header: &SiteHeader) -> Result<Sketch, StatsError> {
        let mut pages = Pages::new();
        let counts =
            self.numbers("pages", Dtype::U64, &[Some(header.pages.len()), Some(PAGE)], u64::from_le_bytes)?;
        let fine = |page: usize| page < PAGES && page % (PAGES / 2) != PAGES / 2 - 1;
        if !header.pages.windows(2).all(|pair| pair[0] < pair[1])
            || !header.pages.iter().all(|&page| fine(page))
        {
            return Err(self.failed("page numbers must ascend and be those of finite values"));
        }
        for (&number, counts) in header.pages.iter().zip(counts.as_chunks::<PAGE>().0) {
            pages.add(number, counts);
        }
        let channels = self.channels()?;
        let special = Special {
            zero: header.zero,
            negative_zero: header.negative_zero,
            nan: header.nan,
            infinite: header.infinite,
            negative_infinite: header.negative_infinite,
        };
        let finite = total(channels.finite.iter().copied());
        let bucketed = total(counts.iter().copied().chain([special.zero, special.negative_zero]));
        let all = total([special.nan, special.infinite, special.negative_infinite].into_iter().chain(finite));
        if finite.is_none() || finite != bucketed || all != Some(header.count) {
            return Err(self.failed("the counts of buckets, channels and special values disagree"));
        }
        let finite = finite.unwrap_or(0);
        let tails = [self.tail("largest", finite)?, self.tail("smallest", finite)?];
        let rows = self.rows(channels.len(), header.count)?;
        Ok(Sketch { count: header.count, special, pages, channels, tails, rows })
    }

    /// The sampled rows of a site that has them, `count` values in all.
    fn rows(&self, channels: usize, count: u64) -> Result<Option<Rows>, StatsError> {
        if self.tensors.tensor(&format!("{}.{ROWS}", self.at)).is_err() {
            return Ok(None);
        }
        let positions = count / (channels as u64).max(1);
        let len = usize::try_from(positions).unwrap_or(usize::MAX).min(Rows::most(channels));
        let priorities = self.numbers(PRIORITIES, Dtype::U64, &[Some(len)], u64::from_le_bytes)?;
        let values = self.numbers(ROWS, Dtype::F32, &[Some(len), Some(channels)], f32::from_le_bytes)?;
        let rows = Rows::from_parts(channels, &priorities, &values);
        rows.map(Some).ok_or_else(|| self.failed("the sampled rows must be in the order of their priorities"))
    }

    fn channels(&self) -> Result<Channels, StatsError> {
        let finite = self.numbers("finite", Dtype::U64, &[None], u64::from_le_bytes)?;
        let n = Some(finite.len());
        let sums = |name| {
            let bytes = self.bytes(name, Dtype::U8, &[n, Some(Exact::BYTES)])?;
            let sums: Option<Vec<Exact>> = bytes.chunks_exact(Exact::BYTES).map(Exact::from_bytes).collect();
            sums.map(|sums| Sums::from_channels(&sums))
                .ok_or_else(|| self.failed(format!("`{name}` holds an impossible sum")))
        };
        let tops = |name| {
            let slots = self.numbers(name, Dtype::F32, &[n, Some(CHANNEL_TAIL)], f32::from_le_bytes)?;
            let tops: Option<Vec<Top>> = slots
                .chunks_exact(CHANNEL_TAIL)
                .zip(&finite)
                .map(|(slots, &count)| {
                    let top = Top::from_slots(slots.try_into().ok()?)?;
                    (top.values().count() as u64 == count.min(CHANNEL_TAIL as u64)).then_some(top)
                })
                .collect();
            tops.ok_or_else(|| self.failed(format!("`{name}` must hold the extreme values in order")))
        };
        let (top, bottom) = (tops("top")?, tops("bottom")?);
        let crossed = |(top, bottom): (&Top, &Top)| {
            top.values()
                .next()
                .zip(bottom.values().next())
                .is_some_and(|(max, negated_min)| max < -negated_min)
        };
        if top.iter().zip(&bottom).any(crossed) {
            return Err(self.failed("the largest value of a channel is below its smallest"));
        }
        let (sum, squares) = (sums("sum")?, sums("squares")?);
        let (top, bottom) = (Tops::from_channels(&top), Tops::from_channels(&bottom));
        Ok(Channels { finite, sum, squares, top, bottom })
    }

    fn tail(&self, name: &str, finite: u64) -> Result<Tail, StatsError> {
        let len = finite.min(TAIL as u64) as usize;
        let values = self.numbers(name, Dtype::F32, &[Some(len)], f32::from_le_bytes)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(self.failed(format!("`{name}` holds a value that is not finite")));
        }
        let mut tail = Tail::new();
        for value in values {
            tail.offer(value);
        }
        Ok(tail)
    }

    fn numbers<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[Option<usize>],
        read: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, StatsError> {
        let bytes = self.bytes(name, dtype, shape)?;
        Ok(bytes.chunks_exact(N).filter_map(|bytes| Some(read(bytes.try_into().ok()?))).collect())
    }

    /// The bytes of a tensor of the type and shape asked for; `None` stands for any size.
    fn bytes(&self, name: &str, dtype: Dtype, shape: &[Option<usize>]) -> Result<&[u8], StatsError> {
        let tensor = self
            .tensors
            .tensor(&format!("{}.{name}", self.at))
            .map_err(|error| self.failed(format!("`{name}`: {error}")))?;
        let fits = tensor.shape().len() == shape.len()
            && tensor
                .shape()
                .iter()
                .zip(shape)
                .all(|(found, expected)| expected.is_none_or(|size| size == *found));
        if tensor.dtype() != dtype || !fits {
            let found = (tensor.dtype(), tensor.shape());
            return Err(self.failed(format!("`{name}`: expected {dtype:?} {shape:?}, found {found:?}")));
        }
        Ok(tensor.data())
    }
}

/// The sum, or `None` if it does not fit.
fn total(counts: impl IntoIterator<Item = u64>) -> Option<u64> {
    counts.into_iter().try_fold(0_u64, u64::checked_add)
}
