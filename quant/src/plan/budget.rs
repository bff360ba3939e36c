//! What a plan costs: bits, bytes and bit-operations.

use serde::{Deserialize, Serialize};

use super::{Plan, SitePlan};
use crate::quantizer::{Granularity, Params};
use crate::terms::{SiteId, Slot};

/// Bits that full precision counts as in averages and bit-operations: what a half-precision engine runs.
pub(crate) const FLOAT_BITS: f64 = 16.0;
/// Bytes of a full-precision weight in a file.
pub(crate) const FLOAT_BYTES: u64 = 4;

/// The size of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerCost {
    /// Its name.
    pub layer: String,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// Number of weights; 0 for a product of two activations.
    pub weights: u64,
    /// Rows that the weight is packed in: its output channels.
    pub rows: u64,
}

/// The cost of a plan over a model's layers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Bits a weight, weighted by the number of weights; full precision counts as 16.
    pub average_weight_bits: f64,
    /// Bits an activation, weighted by the MACs of its layer; full precision counts as 16.
    pub average_activation_bits: f64,
    /// Bytes of the weights: packed codes (rows padded to bytes), 4 bytes for each fitted parameter,
    /// 4 bytes for each weight in full precision.
    pub weight_bytes: u64,
    /// Bytes of the same weights in 32-bit full precision.
    pub float_weight_bytes: u64,
    /// Σ MACs × bits of one operand × bits of the other.
    pub bit_operations: f64,
}

/// The cost of `plan` over `layers`; sites that it does not name are in full precision.
pub fn budget(plan: &Plan, layers: &[LayerCost]) -> Budget {
    let mut out = Budget::default();
    let (mut weights, mut weight_bits) = (0.0, 0.0);
    let (mut macs, mut activation_bits) = (0.0, 0.0);
    for cost in layers {
        let site = |slot| plan.site(&SiteId::new(cost.layer.clone(), slot));
        let bits = |slot| site(slot).and_then(|s| s.bits().get()).map_or(FLOAT_BITS, f64::from);
        let layer_macs = cost.macs as f64;
        let operands = if cost.weights > 0 {
            weights += cost.weights as f64;
            weight_bits += cost.weights as f64 * bits(Slot::Weight);
            out.weight_bytes = out.weight_bytes.saturating_add(bytes(site(Slot::Weight), cost));
            out.float_weight_bytes =
                out.float_weight_bytes.saturating_add(cost.weights.saturating_mul(FLOAT_BYTES));
            activation_bits += layer_macs * bits(Slot::Input);
            macs += layer_macs;
            [Slot::Input, Slot::Weight]
        } else {
            // Both operands are activations; each counts with the layer's MACs.
            activation_bits += layer_macs * (bits(Slot::Lhs) + bits(Slot::Rhs));
            macs += 2.0 * layer_macs;
            [Slot::Lhs, Slot::Rhs]
        };
        out.bit_operations += layer_macs * operands.map(bits).iter().product::<f64>();
    }
    out.average_weight_bits = if weights > 0.0 { weight_bits / weights } else { FLOAT_BITS };
    out.average_activation_bits = if macs > 0.0 { activation_bits / macs } else { FLOAT_BITS };
    out
}

/// Bytes of one weight as it is exported.
fn bytes(site: Option<&SitePlan>, cost: &LayerCost) -> u64 {
    let Some(bits) = site.and_then(|s| s.bits().get()) else {
        return cost.weights.saturating_mul(FLOAT_BYTES);
    };
    if let Some(params) = site.and_then(SitePlan::params) {
        return fitted_bytes(params, cost);
    }
    // Before fitting, a scale and a zero point for each row or for the tensor.
    let per_tensor = matches!(
        site,
        Some(SitePlan::Quantized { scheme, .. }) if scheme.granularity == Granularity::Tensor
    );
    let numbers = if per_tensor { 2 } else { cost.rows.max(1).saturating_mul(2) };
    codes(bits, cost).saturating_add(numbers.saturating_mul(4))
}

/// Bytes of one weight with these parameters, as it is exported.
pub(crate) fn fitted_bytes(params: &Params, cost: &LayerCost) -> u64 {
    let Some(bits) = params.bits.get() else { return cost.weights.saturating_mul(FLOAT_BYTES) };
    let numbers: u64 = params.parameters().iter().map(|(_, values)| values.len() as u64).sum();
    codes(bits, cost).saturating_add(numbers.saturating_mul(4))
}

/// Bytes of the packed codes.
fn codes(bits: u8, cost: &LayerCost) -> u64 {
    let rows = cost.rows.max(1);
    let row_bytes = (cost.weights / rows).saturating_mul(u64::from(bits)).div_ceil(8);
    rows.saturating_mul(row_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::example::{model, plan, scheme, sites};
    use super::*;
    use crate::terms::Bits;

    fn costs() -> Vec<LayerCost> {
        let cost =
            |layer: &str, macs, weights, rows| LayerCost { layer: layer.to_owned(), macs, weights, rows };
        vec![
            cost("blocks.0.attn.qkv", 300, 27, 9),
            cost("blocks.0.attn.qk", 100, 0, 0),
            cost("blocks.0.mlp.fc1", 600, 36, 12),
        ]
    }

    #[test]
    fn averages_bytes_and_bit_operations() {
        // Weights 4 bits, inputs float, attention operands 4 bits, three parameters per tensor.
        let cost = budget(&plan(), &costs());
        assert_eq!(cost.average_weight_bits, 4.0);
        assert_eq!(cost.average_activation_bits, (300.0 * 16.0 + 200.0 * 4.0 + 600.0 * 16.0) / 1100.0);
        // 3 weights of 4 bits a row are 2 bytes.
        assert_eq!(cost.weight_bytes, 9 * 2 + 12 + 12 * 2 + 12);
        assert_eq!(cost.float_weight_bytes, 63 * 4);
        assert_eq!(cost.bit_operations, 900.0 * 64.0 + 100.0 * 16.0);
    }

    #[test]
    fn full_precision_and_unfitted() {
        let float = Plan::uniform_over(model(), sites(), None, None);
        let cost = budget(&float, &costs());
        assert_eq!((cost.average_weight_bits, cost.average_activation_bits), (16.0, 16.0));
        assert_eq!(cost.weight_bytes, cost.float_weight_bytes);
        let eight = Some((scheme().per_channel(), Bits::new(8).unwrap()));
        let cost = budget(&Plan::uniform_over(model(), sites(), eight, None), &costs());
        assert_eq!(cost.weight_bytes, 63 + 21 * 8);
        assert_eq!(budget(&float, &[]).weight_bytes, 0);
    }
}
