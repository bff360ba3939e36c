//! DetPTQ: the exponent of the error chosen per site by the loss of the model's results (Niu et al., 2023).

use super::{Method, Place, Protocol};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Slot};

/// Exponents that every site chooses from.
pub const EXPONENTS: [f64; 6] = [1.0, 1.5, 2.0, 2.4, 3.0, 4.0];

/// Output-loss-guided adaptive Lp.
#[derive(Debug)]
pub(super) struct DetPtq;

impl Method for DetPtq {
    fn name(&self) -> &'static str {
        "detptq"
    }

    fn source(&self) -> &'static str {
        "After DetPTQ, Niu et al., 2023. The paper's exact detection loss (ODOL) is not public: here the loss is the \
         divergence of the class probabilities per pixel or per row, else the squared difference of the results, on a \
         few calibration samples. Until that search has run, every exponent is 2."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "symmetric per output channel, least |error|^p with p of 1, 1.5, 2, 2.4, 3 or 4"),
            ("activations", "affine per tensor, the same"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let scheme = Scheme::new(Family::Uniform, RangeSearch::Mse { p: 2.0 });
        let weight = place.site.id.slot == Slot::Weight;
        Some((if weight { scheme.symmetric().per_channel() } else { scheme }, bits))
    }

    fn protocol(&self) -> Protocol {
        Protocol::OutputLoss
    }
}
