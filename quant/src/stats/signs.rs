//! The sign of every channel, for folding two modes into one.

use super::error::StatsError;
use super::sketch::Sketch;
use crate::terms::Layout;

/// `±1` by the sign of the mean of every channel (PTQ4SAM, bimodal integration: multiplying the key projection and the
/// query projection by it changes no attention and moves all modes to one side). A mean of zero counts as positive; in
/// the released code (`paper`) its sign is 0, which erases the channel. Values that are not finite are left out.
pub fn channel_signs(values: &[f32], layout: Layout, paper: bool) -> Result<Vec<f32>, StatsError> {
    if layout.checked_len() != Some(values.len()) {
        return Err(StatsError::Layout { len: values.len(), layout });
    }
    let mut sums = vec![0.0_f64; layout.channels];
    if !values.is_empty() {
        for (run, values) in values.chunks_exact(layout.inner).enumerate() {
            sums[run % layout.channels] +=
                values.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).sum::<f64>();
        }
    }
    Ok(sums.into_iter().map(|sum| sign(sum, paper)).collect())
}

impl Sketch {
    /// [`channel_signs`] of what the sketch has seen.
    pub fn channel_signs(&self, paper: bool) -> Vec<f32> {
        self.channel_stats().iter().map(|channel| sign(channel.mean, paper)).collect()
    }
}

fn sign(mean: f64, paper: bool) -> f32 {
    if mean < 0.0 {
        -1.0
    } else if mean == 0.0 && paper {
        0.0
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::channel_signs;
    use crate::stats::Sketch;
    use crate::terms::Layout;

    #[test]
    fn a_mean_of_zero_erases_nothing() {
        let values = [1.0, -1.0, 2.0, -3.0, 2.0, -2.0];
        let layout = Layout { outer: 2, channels: 3, inner: 1 };
        assert_eq!(channel_signs(&values, layout, false).unwrap(), [-1.0, 1.0, 1.0]);
        assert_eq!(channel_signs(&values, layout, true).unwrap(), [-1.0, 1.0, 0.0]);
        let mut sketch = Sketch::new(3);
        sketch.observe(&values, layout).unwrap();
        assert_eq!(sketch.channel_signs(false), [-1.0, 1.0, 1.0]);
        assert!(channel_signs(&values, Layout { outer: 3, ..layout }, false).is_err());
    }
}
