//! One streaming pass over the calibration set fills one sketch per distinct operand.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Session, SessionError, choices, lock};
use crate::data::SampleSet;
use crate::eval::search::Share;
use crate::exec::{Cancel, Engine, NoTap, Quantization, Tap, Value};
use crate::graph::{Graph, Node, NodeId, layout_in};
use crate::quantizer::Granularity;
use crate::stats::{Sketch, StatsError, StatsFile, join_fingerprints};
use crate::terms::{Layout, Slot};

/// Samples that run side by side on a thread at most: sketches and weights stay in the processor's caches meanwhile.
const GROUP: usize = 8;
/// How much longer a run takes that is watched, on the safe side.
const WATCHED: f64 = 1.5;
/// Samples that are counted whatever the time.
const FEWEST: usize = 2;
/// Bytes that all values of a group may have together; a larger model's samples run alone.
const GROUP_BYTES: usize = 256 << 20;

/// Sketches of all activation sites, by [`Graph::sites`] index (weights have theirs in the session).
#[derive(Debug, Clone)]
pub struct SiteStats {
    /// By site; `None` for weights.
    pub sketches: Vec<Option<Arc<Sketch>>>,
    /// Samples counted, by [`SampleSet::keys`].
    pub samples: Vec<String>,
    /// Of the calibration set.
    pub fingerprint: String,
    /// Whether the whole set was counted.
    pub complete: bool,
}

/// What is observed: the value of one node, seen in one layout. Sites that share both share the sketch.
#[derive(Debug, Clone)]
struct Watch {
    layout: Layout,
    /// The axis of the channels, for values of other sizes.
    axis: Option<isize>,
    sites: Vec<usize>,
    /// Whether one of them is fitted on the shapes of its channels.
    shapes: bool,
}

/// Which nodes are watched how.
#[derive(Debug)]
struct Watches {
    watches: Vec<Watch>,
    by_node: Vec<Vec<usize>>,
}

impl Watches {
    /// Watches of the activation sites that `wanted` picks, by channel or by head.
    fn of(graph: &Graph, granularity: Granularity, wanted: impl Fn(usize) -> bool) -> Self {
        let mut found: HashMap<(NodeId, Layout), usize> = HashMap::new();
        let mut made = Self { watches: Vec::new(), by_node: vec![Vec::new(); graph.nodes().len()] };
        for (index, site) in graph.sites().iter().enumerate() {
            let Some(operand) = site.operand.filter(|_| wanted(index)) else { continue };
            let node = graph.node(site.node).inputs[operand];
            let (layout, axis) = (site.layout_of(granularity), site.axis_of(granularity));
            let at = *found.entry((node, layout)).or_insert_with(|| {
                made.watches.push(Watch { layout, axis, sites: Vec::new(), shapes: false });
                made.by_node[node.index()].push(made.watches.len() - 1);
                made.watches.len() - 1
            });
            let watch = &mut made.watches[at];
            watch.sites.push(index);
            watch.shapes |= choices::looks_at_shapes(site, &graph.node(site.node).op);
        }
        made
    }

    fn sketches(&self) -> Vec<Sketch> {
        let of = |watch: &Watch| {
            let channels = watch.layout.channels;
            if watch.shapes { Sketch::sampling(channels) } else { Sketch::new(channels) }
        };
        self.watches.iter().map(of).collect()
    }
}

/// Fills sketches while a sample runs.
struct Observer<'w> {
    watches: &'w Watches,
    sketches: Vec<Sketch>,
    failed: Option<StatsError>,
}

impl Tap for Observer<'_> {
    fn wants(&self, node: NodeId) -> bool {
        !self.watches.by_node[node.index()].is_empty()
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        for &watch in &self.watches.by_node[node.index()] {
            let Watch { layout, axis, .. } = self.watches.watches[watch];
            let same = value.len() == layout.len();
            let layout = if same { layout } else { layout_in(value.shape(), axis) };
            if let Err(error) = self.sketches[watch].observe(value.as_slice(), layout) {
                self.failed.get_or_insert(error);
            }
        }
    }
}

impl Session {
    /// Runs the calibration set in full precision and keeps the sketches. `progress(done, total)` is called on this
    /// thread. A cancelled pass leaves what was there before.
    pub fn calibrate(&self, cancel: &Cancel, progress: impl FnMut(usize, usize)) -> Result<(), SessionError> {
        let stats = self.gather(None, cancel, progress)?;
        self.set_stats(stats);
        Ok(())
    }

    /// The statistics of the calibration set; `known` ones are added to, and samples counted there left out.
    pub fn gather(
        &self,
        known: Option<SiteStats>,
        cancel: &Cancel,
        progress: impl FnMut(usize, usize),
    ) -> Result<SiteStats, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        self.gather_of(set, known, cancel, progress)
    }

    /// The same of the first samples of the calibration set, as many as `time` suffices for by the run of one, and two in any
    /// case; of all if it suffices for them. Says how many these are of how many.
    pub(super) fn calibrate_within(
        &self,
        time: Duration,
        cancel: &Cancel,
        progress: impl FnMut(usize, usize),
    ) -> Result<Share, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let (begun, of) = (Instant::now(), set.len());
        let none = Quantization::none(&self.model.graph);
        let enough = || -> Result<usize, SessionError> {
            let start = Instant::now();
            let inputs = self.sample_inputs(set, 0, None)?;
            self.base.engine.run(&inputs.values, &none, None, &mut NoTap, cancel)?;
            let one = (start.elapsed().as_secs_f64() * WATCHED).max(1e-9);
            let left = time.saturating_sub(begun.elapsed()).as_secs_f64();
            Ok((left * self.workers.count() as f64 / one) as usize)
        };
        // The first run packs the weights: if that seems too long, the next one tells more.
        let mut done = enough()?;
        if done < of && begun.elapsed() < time {
            done = enough()?;
        }
        let done = done.max(FEWEST).min(of);
        if done == of {
            self.calibrate(cancel, progress)?;
        } else {
            let stats = self.gather_of(&set.take(done), None, cancel, progress)?;
            self.set_stats(SiteStats { complete: false, ..stats });
        }
        Ok(Share { done, of })
    }

    fn gather_of(
        &self,
        set: &SampleSet,
        known: Option<SiteStats>,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<SiteStats, SessionError> {
        let graph = &*self.model.graph;
        let watches = Watches::of(graph, Granularity::Channel, |_| true);
        let counted = known.as_ref().map(|k| k.samples.clone()).unwrap_or_default();
        let keys = set.keys()?;
        let before: HashSet<&str> = counted.iter().map(String::as_str).collect();
        let todo: Vec<usize> = (0..keys.len()).filter(|&i| !before.contains(keys[i].as_str())).collect();
        let sketches = self.observe(&self.base.engine, &watches, set, &todo, cancel, &mut progress)?;
        let mut by_site = vec![None; graph.sites().len()];
        for (watch, mut sketch) in watches.watches.iter().zip(sketches) {
            if let Some(before) = known.as_ref().and_then(|k| k.sketches.get(watch.sites[0])?.as_ref()) {
                sketch.merge(before)?;
            }
            let shared = Arc::new(sketch);
            for &site in &watch.sites {
                by_site[site] = Some(Arc::clone(&shared));
            }
        }
        let mut samples = counted;
        samples.extend(todo.iter().map(|&i| keys[i].clone()));
        samples.sort();
        let before = known.as_ref().map_or("", |k| k.fingerprint.as_str());
        let fingerprint = join_fingerprints(before, set.fingerprint()?);
        Ok(SiteStats { sketches: by_site, samples, fingerprint, complete: true })
    }

    /// Sketches of the sites that `wanted` picks, by site, on another graph of the same sites.
    pub(super) fn observe_sites(
        &self,
        engine: &Engine,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<HashMap<usize, Arc<Sketch>>, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        self.observe_sites_on(engine, (set, set.len()), wanted, &Cancel::default(), &mut |_, _| {})
    }

    /// Sketches of all operands that have heads, seen by head.
    pub(super) fn observe_heads(
        &self,
        engine: &Engine,
        cancel: &Cancel,
    ) -> Result<HashMap<usize, Arc<Sketch>>, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let graph = engine.graph();
        let watches = Watches::of(graph, Granularity::Head, |site| graph.sites()[site].heads.is_some());
        self.observe_watched(engine, (set, set.len()), &watches, cancel, &mut |_, _| {})
    }

    /// The same over the first samples of any set.
    pub(super) fn observe_sites_on(
        &self,
        engine: &Engine,
        (set, count): (&SampleSet, usize),
        wanted: impl Fn(usize) -> bool,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<HashMap<usize, Arc<Sketch>>, SessionError> {
        let watches = Watches::of(engine.graph(), Granularity::Channel, wanted);
        self.observe_watched(engine, (set, count), &watches, cancel, progress)
    }

    fn observe_watched(
        &self,
        engine: &Engine,
        (set, count): (&SampleSet, usize),
        watches: &Watches,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<HashMap<usize, Arc<Sketch>>, SessionError> {
        if watches.watches.is_empty() {
            return Ok(HashMap::new());
        }
        let todo: Vec<usize> = (0..count.min(set.len())).collect();
        let sketches = self.observe(engine, watches, set, &todo, cancel, progress)?;
        let mut by_site = HashMap::new();
        for (watch, sketch) in watches.watches.iter().zip(sketches) {
            let shared = Arc::new(sketch);
            by_site.extend(watch.sites.iter().map(|&site| (site, Arc::clone(&shared))));
        }
        Ok(by_site)
    }

    /// Sketches of the values of nodes, seen per channel of the axis given with them.
    pub(super) fn observe_nodes(
        &self,
        engine: &Engine,
        nodes: &[(NodeId, isize)],
    ) -> Result<Vec<Sketch>, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let graph = engine.graph();
        let mut watches = Watches { watches: Vec::new(), by_node: vec![Vec::new(); graph.nodes().len()] };
        for &(node, axis) in nodes {
            let layout = layout_in(&graph.node(node).shape, Some(axis));
            watches.by_node[node.index()].push(watches.watches.len());
            watches.watches.push(Watch { layout, axis: Some(axis), sites: Vec::new(), shapes: false });
        }
        let todo: Vec<usize> = (0..set.len()).collect();
        self.observe(engine, &watches, set, &todo, &Cancel::default(), &mut |_, _| {})
    }

    /// Runs samples in full precision and counts what the watches see.
    fn observe(
        &self,
        engine: &Engine,
        watches: &Watches,
        set: &SampleSet,
        todo: &[usize],
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Sketch>, SessionError> {
        let idle: Mutex<Vec<Vec<Sketch>>> = Mutex::new(Vec::new());
        let none = Quantization::none(engine.graph());
        let total = todo.len();
        progress(0, total);
        let mut done = 0;
        let bytes = |node: &Node| node.shape.iter().fold(size_of::<f32>(), |all, &n| all.saturating_mul(n));
        let sample =
            engine.graph().nodes().iter().fold(1, |all: usize, node| all.saturating_add(bytes(node)));
        let groups: Vec<&[usize]> = todo.chunks((GROUP_BYTES / sample).clamp(1, GROUP)).collect();
        self.workers.for_each(
            groups.len(),
            |k| -> Result<(), SessionError> {
                let load = |&index: &usize| Ok(self.sample_inputs(set, index, None)?.values);
                let inputs = groups[k].iter().map(load).collect::<Result<Vec<_>, SessionError>>()?;
                let sketches = lock(&idle).pop().unwrap_or_else(|| watches.sketches());
                let mut tap = Observer { watches, sketches, failed: None };
                let run = engine.watch_group(&inputs, &none, &mut tap, cancel);
                lock(&idle).push(tap.sketches);
                run?;
                tap.failed.map_or(Ok(()), |e| Err(e.into()))
            },
            |k, ()| {
                done += groups[k].len();
                progress(done, total);
                Ok(())
            },
        )?;
        let mut parts = idle.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter();
        let mut sketches = parts.next().unwrap_or_else(|| watches.sketches());
        for part in parts {
            for (all, one) in sketches.iter_mut().zip(&part) {
                all.merge(one)?;
            }
        }
        Ok(sketches)
    }

    /// Writes the statistics of all sites, weights included.
    pub fn write_stats(&self, stats: &SiteStats, path: &Path) -> Result<(), SessionError> {
        let mut file = StatsFile {
            model_fingerprint: self.model.fingerprint.clone(),
            calibration_fingerprint: stats.fingerprint.clone(),
            samples: stats.samples.clone(),
            sites: std::collections::BTreeMap::new(),
        };
        for (index, site) in self.model.graph.sites().iter().enumerate() {
            if let Some(sketch) = stats.sketches.get(index).and_then(Option::as_ref) {
                file.sites.insert(site.id.clone(), (site.role, sketch.as_ref().clone()));
            }
        }
        Ok(file.write(path)?)
    }

    /// Reads statistics of this model.
    pub fn read_stats(&self, path: &Path) -> Result<SiteStats, SessionError> {
        let mut file = StatsFile::read(path)?;
        if file.model_fingerprint != self.model.fingerprint {
            return Err(StatsError::Fingerprint {
                what: "model",
                expected: self.model.fingerprint.clone(),
                found: file.model_fingerprint,
            }
            .into());
        }
        let sites = self.model.graph.sites();
        let sketches = sites
            .iter()
            .map(|site| file.sites.remove(&site.id).map(|(_, sketch)| Arc::new(sketch)))
            .collect();
        Ok(SiteStats {
            sketches,
            samples: file.samples,
            fingerprint: file.calibration_fingerprint,
            complete: true,
        })
    }
}

/// Sketches of the weights that `wanted` picks, by site.
pub(super) fn weight_sketches(
    graph: &Graph,
    wanted: impl Fn(usize) -> bool + Sync,
) -> Result<Vec<Option<Arc<Sketch>>>, SessionError> {
    use rayon::prelude::*;
    graph
        .sites()
        .par_iter()
        .enumerate()
        .map(|(index, site)| {
            if site.id.slot != Slot::Weight || !wanted(index) {
                return Ok(None);
            }
            let mut sketch = Sketch::new(site.layout.channels);
            if let Some(param) = graph.weight_of(site.node) {
                param.data.once(|values| sketch.observe(values, site.layout))?;
            }
            Ok(Some(Arc::new(sketch)))
        })
        .collect()
}
