//! What would help a site, and the plan after it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::graph::RewriteKind;
use crate::plan::{Plan, Rewrite, SitePlan};
use crate::quantizer::Scheme;
use crate::session::{FittedPlan, Session, SessionError};
use crate::terms::{Bits, SiteId};

/// A change of a plan for the sake of one site.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "remedy", rename_all = "kebab-case")]
pub enum Remedy {
    /// Another quantizer, another range or other bits, fitted anew.
    Quantizer {
        /// The quantizer.
        scheme: Scheme,
        /// Other bits than now.
        bits: Option<Bits>,
    },
    /// Exchange the parameters with those of the product's other operand.
    Exchange {
        /// The other operand.
        with: SiteId,
    },
    /// Switch a rewrite on.
    Rewrite {
        /// Which.
        rewrite: String,
        /// Where.
        layer: String,
    },
    /// Switch rewrites off, and fit what they changed anew.
    WithoutRewrites {
        /// Which, and where.
        rewrites: Vec<(String, String)>,
    },
    /// Find the numbers of rewrites anew, and fit what they change.
    RewritesAnew {
        /// Which, and where.
        rewrites: Vec<(String, String)>,
    },
    /// Calibrate on samples that are more like those the model will see.
    Recalibrate,
}

impl Remedy {
    /// For a list: `log-sqrt2 percentile`, `6 bits`, `smoothing at norm1`.
    pub fn label(&self) -> String {
        let join = |rewrites: &[(String, String)]| {
            rewrites.iter().map(|(word, layer)| format!("{word} at {layer}")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Quantizer { scheme, bits: None } => scheme.to_string(),
            Self::Quantizer { scheme, bits: Some(bits) } => format!("{scheme} at {bits} bits"),
            Self::Exchange { with } => format!("parameters exchanged with {with}"),
            Self::Rewrite { rewrite, layer } => format!("{rewrite} at {layer}"),
            Self::WithoutRewrites { rewrites } => format!("without {}", join(rewrites)),
            Self::RewritesAnew { rewrites } => format!("{} fitted anew", join(rewrites)),
            Self::Recalibrate => "another calibration set".to_owned(),
        }
    }
}

impl Session {
    /// The plan after a remedy at one site; what must be fitted anew has no numbers yet. A remedy that is no change of
    /// the plan leaves it as it is.
    pub fn remedied(
        &self,
        fitted: &FittedPlan,
        site: &SiteId,
        remedy: &Remedy,
    ) -> Result<Plan, SessionError> {
        self.index_of(site)?;
        let mut plan = fitted.plan.as_ref().clone();
        match remedy {
            Remedy::Quantizer { scheme, bits } => {
                let bits = bits.or_else(|| plan.site(site).map(SitePlan::bits)).unwrap_or(Bits::EIGHT);
                plan.set(site, Some(SitePlan::unfitted(scheme.clone(), bits)));
            }
            Remedy::Exchange { with } => {
                self.index_of(with)?;
                let (own, other) = (plan.site(site).cloned(), plan.site(with).cloned());
                plan.set(site, other);
                plan.set(with, own);
            }
            Remedy::Rewrite { rewrite, layer } => {
                plan.rewrites.push(Rewrite {
                    rewrite: rewrite.clone(),
                    layer: layer.clone(),
                    vectors: BTreeMap::new(),
                });
                self.unfit(&mut plan, rewrite, layer)?;
            }
            Remedy::WithoutRewrites { rewrites } => {
                for (word, layer) in rewrites {
                    plan.rewrites.retain(|r| r.rewrite != *word || r.layer != *layer);
                    self.unfit(&mut plan, word, layer)?;
                }
            }
            Remedy::RewritesAnew { rewrites } => {
                for (word, layer) in rewrites {
                    for rewrite in &mut plan.rewrites {
                        if rewrite.rewrite == *word && rewrite.layer == *layer {
                            // The strength is a choice, not a number that is found.
                            rewrite.vectors.retain(|name, _| name == "alpha");
                        }
                    }
                    self.unfit(&mut plan, word, layer)?;
                }
            }
            Remedy::Recalibrate => {}
        }
        Ok(plan)
    }

    /// Sites whose values a rewrite changes.
    pub(super) fn changed_by(&self, rewrite: &str, layer: &str) -> Result<Vec<SiteId>, SessionError> {
        let kind = parse(rewrite)?;
        let places = self.rewrite_places();
        let sites = places.iter().filter(|place| place.kind == kind && place.layer == layer);
        Ok(sites.flat_map(|place| place.sites.iter().cloned()).collect())
    }

    /// Takes the numbers from the sites that a rewrite changes.
    fn unfit(&self, plan: &mut Plan, rewrite: &str, layer: &str) -> Result<(), SessionError> {
        for site in self.changed_by(rewrite, layer)? {
            if let Some(SitePlan::Quantized { scheme, bits, .. }) = plan.site(&site).cloned() {
                plan.set(&site, Some(SitePlan::unfitted(scheme, bits)));
            }
        }
        Ok(())
    }
}

pub(super) fn parse(word: &str) -> Result<RewriteKind, SessionError> {
    word.parse().map_err(|source| SessionError::UnknownRewrite { source })
}
