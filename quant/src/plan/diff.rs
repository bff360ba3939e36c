//! Where two plans differ.

use std::collections::BTreeSet;

use super::{Plan, SitePlan};
use crate::terms::SiteId;

/// A site that two plans treat differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'a> {
    /// The site.
    pub site: SiteId,
    /// What the first plan says; `None` when it does not name the site.
    pub before: Option<&'a SitePlan>,
    /// What the second plan says.
    pub after: Option<&'a SitePlan>,
}

/// All sites that `a` and `b` treat differently, by layer name and operand.
pub fn diff<'a>(a: &'a Plan, b: &'a Plan) -> Vec<Difference<'a>> {
    let sites: BTreeSet<SiteId> = a.sites().chain(b.sites()).map(|(site, _)| site).collect();
    sites
        .into_iter()
        .filter_map(|site| {
            let (before, after) = (a.site(&site), b.site(&site));
            (before != after).then_some(Difference { site, before, after })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{params, plan, sites};
    use super::*;

    #[test]
    fn only_what_differs_is_listed() {
        let (a, mut b) = (plan(), plan());
        assert!(diff(&a, &b).is_empty());
        b.set(&sites()[1], Some(SitePlan::fitted(params(0.4))));
        b.set(&sites()[2], None);
        let found = diff(&a, &b);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].site, found[0].after), (&sites()[2], None));
        assert_eq!(found[1].before, Some(&SitePlan::fitted(params(0.3))));
        assert_eq!(diff(&b, &a)[0].before, None);
    }
}
