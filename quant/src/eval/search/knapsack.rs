//! The multiple-choice knapsack: one choice per group, least summed loss under a budget, exactly.

/// One way to decide a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What it costs, in units of a budget.
    pub cost: u64,
    /// What it loses; choices whose loss is not finite are never taken.
    pub loss: f64,
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

/// All states that no other beats in both cost and loss: the whole front of the sums, for every budget at once.
///
/// The dynamic program of Nemhauser and Ullmann (1969), group by group: every state of the list is extended by every choice
/// and what is dominated is dropped. That a dropped state can never be part of a better whole follows from costs and
/// losses adding up. Costs are integers, so a list has no more states than there are multiples of their greatest common
/// divisor up to the largest sum.
///
/// Where a list would still grow beyond a bound (at least 4096 states or one per group, up to 131072 for few groups), the
/// costs above the cheapest of each group are rounded **up** to multiples of a [`unit`](Self::unit), doubled until it
/// fits. Every answer then still keeps its budget, and loses no more than the best plan of a budget that is smaller by
/// one unit per group.
#[derive(Debug)]
pub struct Frontier {
    /// Of the cheapest choices together.
    least: u64,
    unit: u64,
    /// Units above `least`, ascending.
    costs: Vec<u64>,
    /// Descending.
    losses: Vec<f64>,
    stages: Vec<Vec<Step>>,
}

/// Choices of a group worth looking at: `(units above the cheapest, loss, number)`, costs ascending, losses descending.
type Ladder = Vec<(u64, f64, u32)>;

impl Frontier {
    /// The front of the sums; none if a group has no choice of finite loss.
    pub fn new(groups: &[Vec<Choice>]) -> Option<Self> {
        Self::bounded(groups, (MOST_STEPS / groups.len().max(1)).clamp(LIST.0, LIST.1))
    }

    /// The same with lists of at most `most` states, or one more than there are groups.
    fn bounded(groups: &[Vec<Choice>], most: usize) -> Option<Self> {
        // With a unit beyond all costs every choice costs nothing or one: then a list has no more states than this.
        let most = most.max(groups.len() + 1);
        let mut least = 0_u64;
        let mut ladders: Vec<Ladder> = Vec::with_capacity(groups.len());
        for choices in groups {
            let (cheapest, ladder) = ladder(choices)?;
            least = least.saturating_add(cheapest);
            ladders.push(ladder);
        }
        let steps = ladders.iter().flatten().map(|step| step.0);
        let mut unit = steps.fold(0, gcd).max(1);
        loop {
            if let Some((costs, losses, stages)) = lists(&ladders, unit, most) {
                return Some(Self { least, unit, costs, losses, stages });
            }
            unit = unit.saturating_mul(2);
        }
    }

    /// What costs are multiples of (above the cheapest); more than their greatest common divisor where they were rounded.
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// The cost of the cheapest state.
    pub fn least(&self) -> u64 {
        self.least
    }

    /// Number of states.
    pub fn len(&self) -> usize {
        self.costs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.costs.is_empty()
    }

    /// The choice for every group, with the summed loss, that loses least of all that cost at most `budget`.
    pub fn best(&self, budget: u64) -> Option<(Vec<usize>, f64)> {
        let units = budget.checked_sub(self.least)? / self.unit;
        let at = self.costs.partition_point(|&cost| cost <= units).checked_sub(1)?;
        let mut choices = vec![0; self.stages.len()];
        let mut state = at;
        for (choice, stage) in choices.iter_mut().zip(&self.stages).rev() {
            let step = stage.get(state)?;
            (*choice, state) = (step.choice as usize, step.parent as usize);
        }
        Some((choices, self.losses[at]))
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The cost of the cheapest usable choice, and the choices that no other of the group dominates.
fn ladder(choices: &[Choice]) -> Option<(u64, Ladder)> {
    let usable = choices.iter().zip(0_u32..).filter(|(choice, _)| choice.loss.is_finite());
    let mut order: Vec<(u64, f64, u32)> = usable.map(|(c, at)| (c.cost, c.loss, at)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let cheapest = order.first()?.0;
    let mut ladder: Ladder = Vec::new();
    for (cost, loss, at) in order {
        if ladder.last().is_none_or(|last| loss < last.1) {
            ladder.push((cost - cheapest, loss, at));
        }
    }
    Some((cheapest, ladder))
}

/// Costs in units, losses, and how each list came from the one before; none if a list grows beyond `most`.
#[allow(clippy::type_complexity, reason = "three parts of one value")]
fn lists(ladders: &[Ladder], unit: u64, most: usize) -> Option<(Vec<u64>, Vec<f64>, Vec<Vec<Step>>)> {
    let (mut costs, mut losses) = (vec![0_u64], vec![0.0_f64]);
    let mut stages = Vec::with_capacity(ladders.len());
    for ladder in ladders {
        let rungs: Vec<(u64, f64, u32)> =
            ladder.iter().map(|&(cost, loss, at)| (cost.div_ceil(unit), loss, at)).collect();
        // By rung: the next state to extend. Every sequence is sorted, so the cheapest head is the next candidate.
        let mut heads = vec![0_usize; rungs.len()];
        let (mut next_costs, mut next_losses, mut steps) = (Vec::new(), Vec::<f64>::new(), Vec::new());
        loop {
            let mut first: Option<(u64, f64, usize)> = None;
            for (rung, &head) in heads.iter().enumerate() {
                if head < costs.len() {
                    let cost = costs[head].saturating_add(rungs[rung].0);
                    let loss = losses[head] + rungs[rung].1;
                    if first.is_none_or(|(c, l, _)| cost < c || (cost == c && loss < l)) {
                        first = Some((cost, loss, rung));
                    }
                }
            }
            let Some((cost, loss, rung)) = first else { break };
            if next_losses.last().is_none_or(|&last| loss < last) {
                next_costs.push(cost);
                next_losses.push(loss);
                steps.push(Step { parent: heads[rung] as u32, choice: rungs[rung].2 });
                if steps.len() > most {
                    return None;
                }
            }
            heads[rung] += 1;
        }
        (costs, losses) = (next_costs, next_losses);
        stages.push(steps);
    }
    Some((costs, losses, stages))
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
            let found = Frontier::new(&groups).and_then(|front| front.best(budget));
            match (expected, found) {
                (None, None) => {}
                (Some(least), Some((taken, loss))) => {
                    prop_assert_eq!(loss, least);
                    let (cost, sum) = sums(&groups, &taken);
                    prop_assert!(cost <= budget);
                    prop_assert_eq!(sum, loss);
                }
                (a, b) => prop_assert!(false, "{:?} {:?}", a, b.map(|found| found.1)),
            }
        }

        #[test]
        fn rounded_costs_keep_the_budget_and_lose_what_is_promised(
            groups in choices(),
            budget in 0_u64..500,
            most in 1_usize..8,
        ) {
            let Some(front) = Frontier::bounded(&groups, most) else { return Ok(()) };
            prop_assert!(front.len() <= most.max(groups.len() + 1));
            let Some((taken, loss)) = front.best(budget) else {
                prop_assert!(brute(&groups, budget).is_none());
                return Ok(());
            };
            prop_assert!(sums(&groups, &taken).0 <= budget);
            let smaller = budget.checked_sub(front.unit().saturating_mul(groups.len() as u64));
            if let Some(least) = smaller.and_then(|smaller| brute(&groups, smaller)) {
                prop_assert!(loss <= least, "{loss} {least}");
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
        let front = Frontier::new(&groups).unwrap();
        assert_eq!(front.unit(), 4096);
        assert!(front.len() <= 1201);
        let (choices, _) = front.best(200 * 4 * 4096).unwrap();
        assert!(choices[199] > choices[0], "what loses more gets more bits");
        assert!(front.best(200 * 2 * 4096 - 1).is_none());
        assert_eq!(front.least(), 200 * 2 * 4096);
    }
}
