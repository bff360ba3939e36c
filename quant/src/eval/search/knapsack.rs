//! The multiple-choice knapsack: one choice per group, least summed loss under a budget, exactly.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// One way to decide a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What it costs, in units of a budget.
    pub cost: u64,
    /// What it loses; choices whose loss is not finite are never taken.
    pub loss: f64,
}

/// The best choices within a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// By group, as numbered by the caller.
    pub choices: Vec<usize>,
    /// Their summed loss.
    pub loss: f64,
    /// What costs were counted in, above the cheapest: more than their greatest common divisor where they were rounded.
    pub unit: u64,
}

/// How a state came to be.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Place of the state that it grew from, in the list of the group before.
    parent: u32,
    /// The choice in its group, as numbered by the caller.
    choice: u32,
}

/// Steps kept for all groups together, eight bytes each; it bounds memory to 64 MiB.
const MOST_STEPS: usize = 1 << 23;
/// Bounds of the length of one list.
const LIST: (usize, usize) = (1 << 12, 1 << 17);
/// Sums in another order differ by less than this part.
const ROUNDING: f64 = 1e-9;

/// Choices of a group worth looking at: `(units above the cheapest, loss, number)`, costs ascending, losses descending.
type Ladder = Vec<(u64, f64, u32)>;

/// The cost of the cheapest choices together; none if a group has no choice of finite loss.
pub fn least(groups: &[Vec<Choice>]) -> Option<u64> {
    let cheapest = |choices: &Vec<Choice>| {
        choices.iter().filter(|choice| choice.loss.is_finite()).map(|choice| choice.cost).min()
    };
    groups.iter().try_fold(0, |sum: u64, choices| Some(sum.saturating_add(cheapest(choices)?)))
}

/// The choice for every group that loses least of all that cost at most `budget`; none if nothing is as cheap.
///
/// The dynamic program of Nemhauser and Ullmann (1969), group by group: every state of a list is extended by every choice,
/// and what is dominated in both cost and loss is dropped. That a dropped state can never be part of a better whole follows
/// from costs and losses adding up. Dropped is also what the [`Bound`] proves to lose more, however it goes on, than a
/// choice that is known: near a budget few states are left.
///
/// Where a list would still grow beyond a bound (at least 4096 states or one per group, up to 131072 for few groups), the
/// costs above the cheapest of each group are rounded **up** to multiples of a unit, doubled until it fits. The answer
/// then still keeps its budget, and loses no more than the best plan of a budget that is smaller by one unit per group.
pub fn best(groups: &[Vec<Choice>], budget: u64) -> Option<Best> {
    bounded(groups, budget, (MOST_STEPS / groups.len().max(1)).clamp(LIST.0, LIST.1))
}

/// The same with lists of at most `most` states, or one more than there are groups.
fn bounded(groups: &[Vec<Choice>], budget: u64, most: usize) -> Option<Best> {
    let budget = budget.checked_sub(least(groups)?)?;
    // With a unit beyond all costs every choice costs nothing or one: then a list has no more states than this.
    let most = most.max(groups.len() + 1);
    let ladders: Vec<Ladder> = groups.iter().map(|choices| ladder(choices)).collect();
    let mut unit = ladders.iter().flatten().map(|step| step.0).fold(0, gcd).max(1);
    loop {
        let rounded = |ladder: &Ladder| -> Ladder {
            ladder.iter().map(|&(cost, loss, at)| (cost.div_ceil(unit), loss, at)).collect()
        };
        let rounded: Vec<Ladder> = ladders.iter().map(rounded).collect();
        if let Some((loss, stages)) = lists(&rounded, &Bound::new(&rounded, budget / unit), most) {
            let mut state = stages.last().map_or(0, |last| last.len().saturating_sub(1));
            let mut choices = vec![0; stages.len()];
            for (choice, stage) in choices.iter_mut().zip(&stages).rev() {
                let step = stage.get(state)?;
                (*choice, state) = (step.choice as usize, step.parent as usize);
            }
            return Some(Best { choices, loss, unit });
        }
        unit = unit.saturating_mul(2);
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The choices that no other of the group dominates.
fn ladder(choices: &[Choice]) -> Ladder {
    let usable = choices.iter().zip(0_u32..).filter(|(choice, _)| choice.loss.is_finite());
    let mut order: Vec<(u64, f64, u32)> = usable.map(|(c, at)| (c.cost, c.loss, at)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let cheapest = order.first().map_or(0, |first| first.0);
    let mut ladder: Ladder = Vec::new();
    for (cost, loss, at) in order {
        if ladder.last().is_none_or(|last| loss < last.1) {
            ladder.push((cost - cheapest, loss, at));
        }
    }
    ladder
}

/// What no continuation of a state can undercut, against what is known to be possible.
///
/// For any price λ ≥ 0 of a unit, every whole within the budget B has a loss of at least Σ min(loss + λ·cost) − λ·B
/// (Lagrange). The price is that of the step at which the linear relaxation meets the budget (Sinha and Zoltners 1979),
/// which makes the bound of the whole the tightest; the steps before it are a choice that is possible.
#[derive(Debug)]
struct Bound {
    /// Units that may be spent.
    budget: u64,
    price: f64,
    /// By group: the least of loss + price · cost of all groups from it on; 0 behind the last.
    rest: Vec<f64>,
    /// The loss of a choice within the budget.
    known: f64,
}

impl Bound {
    fn new(ladders: &[Ladder], budget: u64) -> Self {
        // The lower convex hull of each group, as places in its ladder.
        let hulls: Vec<Vec<usize>> = ladders.iter().map(hull).collect();
        // Steps along them, the most saved by a unit first: within a hull that is their order.
        let slope = |group: usize, at: usize| {
            let (from, to) = (ladders[group][hulls[group][at - 1]], ladders[group][hulls[group][at]]);
            (from.1 - to.1) / (to.0 - from.0) as f64
        };
        let mut steps: Vec<(f64, usize, usize)> = Vec::new();
        for (group, hull) in hulls.iter().enumerate() {
            steps.extend((1..hull.len()).map(|at| (slope(group, at), group, at)));
        }
        steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (mut spent, mut price, mut places) = (0_u64, None, vec![0_usize; ladders.len()]);
        for (saved, group, at) in steps {
            let ladder = &ladders[group];
            let more = ladder[hulls[group][at]].0 - ladder[hulls[group][at - 1]].0;
            if places[group] + 1 == at && spent.saturating_add(more) <= budget {
                spent += more;
                places[group] = at;
            } else {
                price.get_or_insert(saved);
            }
        }
        let price = price.unwrap_or(0.0);
        let taken = ladders.iter().zip(&hulls).zip(&places);
        let known = taken.map(|((ladder, hull), &at)| ladder[hull[at]].1).sum();
        let mut rest = vec![0.0; ladders.len() + 1];
        for (group, ladder) in ladders.iter().enumerate().rev() {
            let least = ladder.iter().map(|rung| rung.1 + price * rung.0 as f64);
            rest[group] = rest[group + 1] + least.fold(f64::INFINITY, f64::min);
        }
        Self { budget, price, rest, known }
    }

    /// Whether a state before group `next` may be part of the best whole.
    fn allows(&self, next: usize, cost: u64, loss: f64) -> bool {
        let least = loss + self.rest[next] - self.price * (self.budget - cost) as f64;
        let sums = self.known.abs() + loss.abs() + self.price * self.budget as f64;
        least <= self.known + ROUNDING * sums
    }
}

/// The rungs of a ladder that lie on its lower convex hull: from the cheapest on, each saves less by a unit than the one
/// before.
fn hull(ladder: &Ladder) -> Vec<usize> {
    let mut hull: Vec<usize> = Vec::with_capacity(ladder.len());
    for (at, &(cost, loss, _)) in ladder.iter().enumerate() {
        // Rounding may have made costs alike; later ones lose less.
        while hull.last().is_some_and(|&last| ladder[last].0 == cost) {
            hull.pop();
        }
        while let [.., a, b] = hull[..] {
            let slope = |from: usize, (cost, loss): (u64, f64)| {
                (ladder[from].1 - loss) / (cost - ladder[from].0) as f64
            };
            if slope(a, (ladder[b].0, ladder[b].1)) > slope(b, (cost, loss)) {
                break;
            }
            hull.pop();
        }
        hull.push(at);
    }
    hull
}

/// The next state that a rung leads to.
#[derive(Debug, PartialEq)]
struct Head {
    cost: u64,
    loss: f64,
    rung: usize,
}

impl Eq for Head {}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self, other);
        a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)).then(a.rung.cmp(&b.rung))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The least loss, and how each list came from the one before, its last state being the one that loses least; none if a
/// list grows beyond `most`.
fn lists(ladders: &[Ladder], bound: &Bound, most: usize) -> Option<(f64, Vec<Vec<Step>>)> {
    let (mut costs, mut losses) = (vec![0_u64], vec![0.0_f64]);
    let mut stages = Vec::with_capacity(ladders.len());
    for (group, ladder) in ladders.iter().enumerate() {
        let (mut next_costs, mut next_losses, mut steps) = (Vec::new(), Vec::<f64>::new(), Vec::new());
        // By rung: the next state to extend. Every sequence is sorted, so the cheapest head is the next candidate.
        let mut places = vec![0_usize; ladder.len()];
        let head = |rung: usize, at: usize| {
            let cost = costs.get(at)?.saturating_add(ladder[rung].0);
            (cost <= bound.budget).then(|| Reverse(Head { cost, loss: losses[at] + ladder[rung].1, rung }))
        };
        let mut heads: BinaryHeap<Reverse<Head>> =
            (0..ladder.len()).filter_map(|rung| head(rung, 0)).collect();
        while let Some(Reverse(Head { cost, loss, rung })) = heads.pop() {
            let place = places[rung];
            if next_losses.last().is_none_or(|&last| loss < last) && bound.allows(group + 1, cost, loss) {
                next_costs.push(cost);
                next_losses.push(loss);
                steps.push(Step { parent: place as u32, choice: ladder[rung].2 });
                if steps.len() > most {
                    return None;
                }
            }
            places[rung] = place + 1;
            heads.extend(head(rung, place + 1));
        }
        (costs, losses) = (next_costs, next_losses);
        stages.push(steps);
    }
    Some((losses.last().copied().unwrap_or(0.0), stages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The least loss of all combinations within a budget.
    fn brute(groups: &[Vec<Choice>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = groups.split_first() else { return Some(0.0) };
        first
            .iter()
            .filter(|choice| choice.loss.is_finite() && choice.cost <= budget)
            .filter_map(|choice| Some(choice.loss + brute(rest, budget - choice.cost)?))
            .min_by(f64::total_cmp)
    }

    fn sums(groups: &[Vec<Choice>], choices: &[usize]) -> (u64, f64) {
        let taken = || groups.iter().zip(choices).map(|(group, &at)| group[at]);
        (taken().map(|c| c.cost).sum(), taken().map(|c| c.loss).sum())
    }

    fn choices() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        // Whole losses, so that sums are exact in any order; one in eight is no choice at all.
        let one = (0_u64..40, 0_i32..200, 0_u8..8).prop_map(|(cost, loss, broken)| Choice {
            cost: cost * 3,
            loss: if broken == 0 { f64::INFINITY } else { f64::from(loss) },
        });
        prop::collection::vec(prop::collection::vec(one, 1..5), 0..6)
    }

    proptest! {
        #[test]
        fn no_combination_is_better(groups in choices(), budget in 0_u64..500) {
            let expected = brute(&groups, budget);
            let found = best(&groups, budget);
            match (expected, found) {
                (None, None) => {}
                (Some(least), Some(found)) => {
                    prop_assert_eq!(found.loss, least);
                    let (cost, sum) = sums(&groups, &found.choices);
                    prop_assert!(cost <= budget);
                    prop_assert_eq!(sum, found.loss);
                }
                (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
            }
        }

        #[test]
        fn rounded_costs_keep_the_budget_and_lose_what_is_promised(
            groups in choices(),
            budget in 0_u64..500,
            most in 1_usize..8,
        ) {
            let Some(found) = bounded(&groups, budget, most) else {
                prop_assert!(brute(&groups, budget).is_none());
                return Ok(());
            };
            prop_assert!(sums(&groups, &found.choices).0 <= budget);
            let smaller = budget.checked_sub(found.unit.saturating_mul(groups.len() as u64));
            if let Some(least) = smaller.and_then(|smaller| brute(&groups, smaller)) {
                prop_assert!(found.loss <= least, "{} {least}", found.loss);
            }
        }
    }

    #[test]
    fn many_groups_of_one_kind_have_few_states() {
        // 200 layers of six widths: 1201 different sums.
        let widths = [2_u64, 3, 4, 5, 6, 8];
        let group = |at: usize| {
            let loss = |bits: u64| (1.0 + at as f64) * 4.0_f64.powi(-(bits as i32));
            widths.iter().map(|&bits| Choice { cost: bits * 4096, loss: loss(bits) }).collect()
        };
        let groups: Vec<Vec<Choice>> = (0..200).map(group).collect();
        let found = best(&groups, 200 * 4 * 4096).unwrap();
        assert_eq!(found.unit, 4096);
        assert!(found.choices[199] > found.choices[0], "what loses more gets more bits");
        assert!(best(&groups, 200 * 2 * 4096 - 1).is_none());
        assert_eq!(least(&groups), Some(200 * 2 * 4096));
    }

    #[test]
    fn costs_without_a_common_divisor_need_no_rounding() {
        // 40 layers of six widths for each operand, costs as of bit-operations: no two sums are alike, and without the
        // bound a list would have more states than the limit after a few groups.
        let widths = [2_u64, 3, 4, 5, 6, 8];
        let group = |at: u64| -> Vec<Choice> {
            let macs = 1_000_003 + 77_777 * at * at;
            let loss = |a: u64, b: u64| {
                let part = |bits: u64, more: u64| 4.0_f64.powi(-(bits as i32)) * (1.0 + (more % 7) as f64);
                part(a, at) + part(b, at * 5 + 3)
            };
            let pair = |&a: &u64| widths.map(|b| Choice { cost: macs * a * b, loss: loss(a, b) });
            widths.iter().flat_map(pair).collect()
        };
        let groups: Vec<Vec<Choice>> = (0..40).map(group).collect();
        let all = least(&groups).unwrap();
        for budget in [all, all + all / 7, 3 * all, 9 * all, 20 * all] {
            let found = best(&groups, budget).unwrap();
            assert_eq!(found.unit, 1, "{budget}");
            assert!(sums(&groups, &found.choices).0 <= budget);
        }
        assert!(best(&groups, all - 1).is_none());
    }
}
