//! The plan of least summed loss under a budget.

use std::collections::BTreeMap;

use super::knapsack::{Choice, best, least};
use super::space::{bytes, counted};
use super::{Limit, SearchError, Space};
use crate::terms::Slot;

/// Joint choices of layers that share groups, at most.
const MOST_JOINT: usize = 1 << 16;

impl Space {
    /// One choice per group, of least summed loss among those that keep the budget. `losses` are by group and candidate;
    /// a candidate whose loss is not finite is not taken.
    ///
    /// * Average bits: weights and activations are two knapsacks, as each has its own bound.
    /// * Bytes of weights: a knapsack of the weights; activations get what loses least.
    /// * Bit-operations: layers couple their two operands, so groups whose layers meet are decided jointly, all their
    ///   combinations being the choices; with q, k and v tied these are the widths of one input times those of one weight.
    pub fn allocate(&self, losses: &[Vec<f64>], limit: Limit) -> Result<Vec<usize>, SearchError> {
        let limit = limit.check()?;
        let mut chosen = vec![0; self.groups.len()];
        let all: Vec<usize> = (0..self.groups.len()).collect();
        let (weights, activations): (Vec<usize>, Vec<usize>) =
            all.into_iter().partition(|&group| self.groups[group].is_weight());
        match limit {
            Limit::AverageBits(average) => {
                for part in [weights, activations] {
                    let costs = self.bits(&part);
                    let numbers: u64 = part.iter().map(|&group| self.numbers(group)).sum();
                    let most = within(numbers, average);
                    self.knapsack(&part, &costs, losses, most, &mut chosen).map_err(|least| {
                        let least = least as f64 / numbers.max(1) as f64;
                        SearchError::TooSmall { limit, least: format!("{least:.3} average bits") }
                    })?;
                }
            }
            Limit::WeightBytes(most) => {
                for group in activations {
                    chosen[group] = least_of(&losses[group]);
                }
                let costs = self.bytes(&weights);
                self.knapsack(&weights, &costs, losses, most, &mut chosen).map_err(|least| {
                    SearchError::TooSmall { limit, least: format!("{least} bytes of weights") }
                })?;
            }
            Limit::BitOperations(most) => self.jointly(losses, most, limit, &mut chosen)?,
        }
        Ok(chosen)
    }

    /// What a group's bits are multiplied by: numbers of its weights, or MACs of its layers.
    fn numbers(&self, group: usize) -> u64 {
        let layers = self.by_name();
        let of = |site: &crate::terms::SiteId| {
            let layer = layers.get(site.layer.as_str());
            layer.map_or(0, |layer| if site.slot == Slot::Weight { layer.weights } else { layer.macs })
        };
        self.groups[group].sites.iter().map(of).sum()
    }

    /// Numbers × bits of every candidate.
    fn bits(&self, part: &[usize]) -> Vec<Vec<u64>> {
        let of = |&group: &usize| {
            let numbers = self.numbers(group);
            self.groups[group].candidates.iter().map(|c| numbers * counted(c.bits)).collect()
        };
        part.iter().map(of).collect()
    }

    /// Bytes of every candidate.
    fn bytes(&self, part: &[usize]) -> Vec<Vec<u64>> {
        let layers = self.by_name();
        let of = |&group: &usize| {
            let group = &self.groups[group];
            let one = |candidate| {
                let sites = group.sites.iter().enumerate();
                let of_site = |(at, site): (usize, &crate::terms::SiteId)| {
                    layers.get(site.layer.as_str()).map_or(0, |layer| bytes(candidate, at, layer))
                };
                sites.map(of_site).fold(0, u64::saturating_add)
            };
            group.candidates.iter().map(one).collect()
        };
        part.iter().map(of).collect()
    }

    /// Decides some groups; the error is the cost of the cheapest choice.
    #[allow(clippy::unused_self, reason = "a space decides what belongs to it")]
    fn knapsack(
        &self,
        part: &[usize],
        costs: &[Vec<u64>],
        losses: &[Vec<f64>],
        most: u64,
        chosen: &mut [usize],
    ) -> Result<(), u64> {
        let choices = |(&group, costs): (&usize, &Vec<u64>)| -> Vec<Choice> {
            costs.iter().zip(&losses[group]).map(|(&cost, &loss)| Choice { cost, loss }).collect()
        };
        let groups: Vec<Vec<Choice>> = part.iter().zip(costs).map(choices).collect();
        let found = best(&groups, most).ok_or_else(|| least(&groups).unwrap_or(u64::MAX))?;
        for (&group, choice) in part.iter().zip(found.choices) {
            chosen[group] = choice;
        }
        Ok(())
    }

    /// Decides groups whose layers meet jointly, by MACs × bits × bits.
    fn jointly(
        &self,
        losses: &[Vec<f64>],
        most: f64,
        limit: Limit,
        chosen: &mut [usize],
    ) -> Result<(), SearchError> {
        let (components, products) = self.components();
        let mut choices: Vec<Vec<Choice>> = Vec::with_capacity(components.len());
        let mut combinations: Vec<Vec<Vec<usize>>> = Vec::with_capacity(components.len());
        for (members, products) in components.iter().zip(&products) {
            let sizes: Vec<usize> =
                members.iter().map(|&group| self.groups[group].candidates.len()).collect();
            let count = sizes.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
            let count = count.filter(|&count| count <= MOST_JOINT).ok_or_else(|| {
                let group = members.first().map(|&group| self.groups[group].name()).unwrap_or_default();
                SearchError::TooManyChoices { group, choices: count.unwrap_or(usize::MAX), most: MOST_JOINT }
            })?;
            let (mut of, mut taken) = (Vec::with_capacity(count), Vec::with_capacity(count));
            for number in 0..count {
                let mut left = number;
                let combination: Vec<usize> = sizes
                    .iter()
                    .map(|&size| {
                        let choice = left % size;
                        left /= size;
                        choice
                    })
                    .collect();
                let bits = |member: usize| {
                    counted(self.groups[members[member]].candidates[combination[member]].bits)
                };
                let cost = products.iter().map(|&(macs, a, b)| macs * bits(a) * bits(b)).sum();
                let loss = members.iter().zip(&combination).map(|(&group, &c)| losses[group][c]).sum();
                of.push(Choice { cost, loss });
                taken.push(combination);
            }
            choices.push(of);
            combinations.push(taken);
        }
        let nothing = || SearchError::Nothing { reason: "a group has no candidate".to_owned() };
        let least = least(&choices).ok_or_else(nothing)?;
        let found = best(&choices, most as u64).ok_or_else(|| SearchError::TooSmall {
            limit,
            least: format!("{:.4e} bit-operations", least as f64),
        })?;
        for ((members, taken), at) in components.iter().zip(&combinations).zip(found.choices) {
            for (&group, &choice) in members.iter().zip(&taken[at]) {
                chosen[group] = choice;
            }
        }
        Ok(())
    }

    /// Groups that meet in layers, directly or over others, and by each such set its products: MACs with the places of
    /// both operands' groups in the set.
    #[allow(clippy::type_complexity, reason = "two lists of one length")]
    fn components(&self) -> (Vec<Vec<usize>>, Vec<Vec<(u64, usize, usize)>>) {
        // The root of each group is the first of its set.
        fn root(roots: &[usize], mut at: usize) -> usize {
            while roots[at] != at {
                at = roots[at];
            }
            at
        }
        let mut of_layer: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, group) in self.groups.iter().enumerate() {
            for site in &group.sites {
                of_layer.entry(&site.layer).or_default().push(at);
            }
        }
        let mut roots: Vec<usize> = (0..self.groups.len()).collect();
        for groups in of_layer.values() {
            for &group in groups {
                let (a, b) = (root(&roots, groups[0]), root(&roots, group));
                roots[a.max(b)] = a.min(b);
            }
        }
        let mut components: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in 0..self.groups.len() {
            components.entry(root(&roots, at)).or_default().push(at);
        }
        let mut products: BTreeMap<usize, Vec<(u64, usize, usize)>> = BTreeMap::new();
        for layer in &self.layers {
            let Some(&[a, b]) = of_layer.get(layer.layer.as_str()).map(Vec::as_slice) else { continue };
            let first = root(&roots, a);
            let place = |group| components[&first].iter().position(|&member| member == group).unwrap_or(0);
            products.entry(first).or_default().push((layer.macs, place(a), place(b)));
        }
        let products = components.keys().map(|first| products.remove(first).unwrap_or_default()).collect();
        (components.into_values().collect(), products)
    }
}

/// The largest whole number of bits that is at most `average` each.
fn within(numbers: u64, average: f64) -> u64 {
    let most = (numbers as f64 * average).floor() as u64;
    // One less where rounding made the product larger.
    if numbers == 0 || most as f64 / numbers as f64 <= average { most } else { most.saturating_sub(1) }
}

/// The first of least loss.
fn least_of(losses: &[f64]) -> usize {
    let order = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
    losses.iter().enumerate().min_by(order).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::example::space;
    use super::*;
    use proptest::prelude::*;

    /// The least summed loss of all plans within a budget, as the plan itself counts it.
    fn brute(space: &Space, losses: &[Vec<f64>], limit: Limit) -> Option<f64> {
        let sizes: Vec<usize> = space.groups.iter().map(|group| group.candidates.len()).collect();
        let all = (0..sizes.iter().product::<usize>()).map(|number| {
            let mut left = number;
            let of = |&size: &usize| {
                let choice = left % size;
                left /= size;
                choice
            };
            sizes.iter().map(of).collect::<Vec<usize>>()
        });
        all.filter(|choices| limit.holds(&space.budget(&space.plan(choices))))
            .map(|choices| sum(losses, &choices))
            .min_by(f64::total_cmp)
    }

    fn sum(losses: &[Vec<f64>], choices: &[usize]) -> f64 {
        choices.iter().zip(losses).map(|(&choice, of)| of[choice]).sum()
    }

    fn limits() -> impl Strategy<Value = Limit> {
        prop_oneof![
            (18_u32..90).prop_map(|x| Limit::AverageBits(f64::from(x) / 10.0)),
            (150_u64..320).prop_map(Limit::WeightBytes),
            (2_900.0..50_000.0).prop_map(Limit::BitOperations),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_plan_within_the_budget_loses_less(
            limit in limits(),
            losses in prop::collection::vec(prop::collection::vec(0_u16..1000, 3), 5),
        ) {
            let space = space();
            space.check("space").unwrap();
            let losses: Vec<Vec<f64>> =
                losses.into_iter().map(|of| of.into_iter().map(f64::from).collect()).collect();
            match (space.allocate(&losses, limit), brute(&space, &losses, limit)) {
                (Ok(choices), Some(least)) => {
                    prop_assert!(limit.holds(&space.budget(&space.plan(&choices))));
                    prop_assert_eq!(sum(&losses, &choices), least);
                }
                (Err(SearchError::TooSmall { .. }), None) => {}
                (found, least) => prop_assert!(false, "{found:?} {least:?}"),
            }
        }
    }

    #[test]
    fn layers_that_meet_are_decided_together() {
        let space = space();
        let (components, products) = space.components();
        assert_eq!(components, [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(products, [vec![(320, 0, 1), (320, 0, 2)], vec![(100, 0, 1)]]);
        // What was left out is not chosen.
        let mut losses = space.losses();
        losses[4] = vec![f64::INFINITY, 1.0, f64::INFINITY];
        let choices = space.allocate(&losses, Limit::BitOperations(1e9)).unwrap();
        assert_eq!(choices, [2, 2, 2, 2, 1]);
    }

    #[test]
    fn averages_are_kept_to_the_last_bit() {
        for numbers in [1_u64, 3, 7, 49, 1_000_003] {
            for average in [1.0 / 3.0, 2.9, 4.1, 6.0, 7.7] {
                let most = within(numbers, average);
                assert!(most as f64 / numbers as f64 <= average, "{numbers} {average}");
                assert!((most + 2) as f64 / numbers as f64 > average, "{numbers} {average}");
            }
        }
    }
}
