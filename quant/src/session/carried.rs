//! The plan that an already quantized file carries.

use std::collections::BTreeMap;

use super::Session;
use crate::models::onnx::Encoding;
use crate::plan::{Plan, SitePlan};
use crate::quantizer::{Family, Params, RangeSearch, Scheme};
use crate::terms::{Bits, Layout};

impl Session {
    /// The encodings of the model's file as a plan, everything that has none in full precision; none if there are no
    /// encodings. Scales that the file finds for every value while it runs become ranges that are fitted on the
    /// calibration set.
    pub fn carried_plan(&self) -> Option<Plan> {
        if self.model.encodings.is_empty() {
            return None;
        }
        let mut plan = self.float_plan();
        "as in the file".clone_into(&mut plan.method);
        for encoding in &self.model.encodings {
            if let Some(site) = self.model.graph.site(&encoding.site)
                && let Some(choice) = choice(encoding, site.layout)
            {
                plan.set(&encoding.site, Some(choice));
            }
        }
        Some(plan)
    }
}

/// An encoding in the terms of a plan; none for widths and axes that a plan does not have.
fn choice(encoding: &Encoding, layout: Layout) -> Option<SitePlan> {
    let bits = Bits::new(encoding.bits).ok()?;
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    if encoding.is_dynamic() {
        return Some(SitePlan::Quantized { scheme, bits, params: None });
    }
    let channels = encoding.scale.len();
    let scheme = match channels {
        1 => scheme,
        n if n == layout.channels => scheme.per_channel(),
        _ => return None,
    };
    // Codes of a plan begin at 0.
    let lowest = if encoding.signed { 1_i64 << (encoding.bits - 1) } else { 0 };
    let zero_point = |at: usize| {
        let zero = encoding.zero_point.get(at).or(encoding.zero_point.first()).copied().unwrap_or(0);
        (zero + lowest) as f32
    };
    let params = Params {
        scheme,
        bits,
        scale: encoding.scale.clone(),
        zero_point: (0..channels).map(zero_point).collect(),
        extra: BTreeMap::new(),
    };
    params.check(layout).ok()?;
    Some(SitePlan::fitted(params))
}

#[cfg(test)]
mod tests {
    use super::choice;
    use crate::models::onnx::Encoding;
    use crate::plan::SitePlan;
    use crate::terms::Layout;

    fn encoding(scale: &[f32], zero_point: &[i64], signed: bool) -> Encoding {
        Encoding {
            site: "fc:weight".parse().unwrap(),
            bits: 8,
            signed,
            symmetric: false,
            scale: scale.to_vec(),
            zero_point: zero_point.to_vec(),
            axis: None,
        }
    }

    #[test]
    fn signed_codes_begin_at_zero() {
        let Some(SitePlan::Quantized { params: Some(params), .. }) =
            choice(&encoding(&[0.5], &[-3], true), Layout::tensor(4))
        else {
            panic!()
        };
        assert_eq!((params.scale[0], params.zero_point[0]), (0.5, 125.0));
        // (code - zero point) · scale with code -128..=127: from -62.5 to 65.
        let mut x = [-100.0, 100.0, 0.3];
        crate::quantizer::quantizer(params.scheme.family).fake_quantize(&mut x, Layout::tensor(3), &params);
        assert_eq!(x, [-62.5, 65.0, 0.5]);
    }

    #[test]
    fn channels_must_be_those_of_the_site() {
        let layout = Layout::axis(&[2, 3], 0).unwrap();
        assert!(choice(&encoding(&[0.5, 0.25], &[0, 1], false), layout).is_some());
        assert!(choice(&encoding(&[0.5, 0.25, 1.0], &[0], false), layout).is_none());
        assert!(choice(&encoding(&[f32::NAN], &[0], false), layout).is_none());
        let dynamic = choice(&encoding(&[], &[0], false), layout);
        assert!(matches!(dynamic, Some(SitePlan::Quantized { params: None, .. })));
    }
}
