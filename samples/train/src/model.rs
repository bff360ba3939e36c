//! The miniature LAVT: Swin blocks with language fusion after every stage, a two-layer BERT, a small decoder.
//!
//! Parameter names, shapes and arithmetic are those of the original `lavt_one`, plus learned position tables
//! after the patch embedding and after every merging: without them neither place nor relation words can be learnt
//! from small data.

use crate::nn::attention::Plan;
use crate::nn::params::{Layout, ParamId, Params, truncated};
use crate::nn::tape::{Id, Tape};
use crate::rng::Rng;
use std::sync::Arc;

/// Channels of the first stage; doubled at every merging.
pub const EMBED: usize = 32;
/// Blocks per stage.
pub const DEPTHS: [usize; 4] = [2, 2, 4, 2];
/// Heads per stage.
pub const HEADS: [usize; 4] = [2, 4, 8, 8];
/// Window side at full size.
pub const WINDOW: usize = 8;
/// Words per sentence, with the special ones and padding.
pub const WORDS: usize = 14;
/// Width of the text encoder.
pub const TEXT: usize = 128;
/// Text layers.
pub const TEXT_LAYERS: usize = 2;
/// Text heads.
pub const TEXT_HEADS: usize = 4;
/// Channels inside the decoder.
pub const HIDDEN: usize = 32;
/// Picture side the tables are made for.
pub const SIDE: usize = 128;
/// Columns of the training-only head per cell: background, categories, then largest and smallest of its kind.
pub const AUX: usize = 1 + crate::catalogue::CATEGORIES.len() + 2;

type Pair = (ParamId, ParamId);

struct Block {
    norm1: Pair,
    qkv: Pair,
    proj: Pair,
    table: ParamId,
    norm2: Pair,
    fc1: Pair,
    fc2: Pair,
}

struct Stage {
    blocks: Vec<Block>,
    vis: Pair,
    key: Pair,
    query: Pair,
    value: Pair,
    out: Pair,
    mm: Pair,
    gate: [ParamId; 2],
    norm: Pair,
    /// LayerNorm, reduction, table of the merging at the end of the stage.
    merging: Option<(Pair, ParamId, ParamId)>,
}

struct TextLayer {
    qkv: [Pair; 3],
    dense: Pair,
    norm1: Pair,
    fc1: Pair,
    fc2: Pair,
    norm2: Pair,
}

struct Level {
    convs: [ParamId; 2],
    norms: [[ParamId; 4]; 2],
}

/// The parameters by place.
pub struct Model {
    patch: Pair,
    patch_norm: Pair,
    ape: ParamId,
    stages: Vec<Stage>,
    embeddings: [ParamId; 3],
    text_norm: Pair,
    text: Vec<TextLayer>,
    decoder: Vec<Level>,
    classify: Pair,
    aux: Pair,
}

/// Attention layouts for one picture side.
pub struct Plans {
    side: usize,
    windows: Vec<Vec<Arc<Plan>>>,
    fusion: Vec<Arc<Plan>>,
    text: Arc<Plan>,
}

/// What the forward pass gives.
pub struct Output {
    /// `[images * (side / 4)^2, 2]`, before the last resizing.
    pub logits: Id,
    /// `[images * (side / 16)^2, 4 * AUX]`, training only.
    pub aux: Id,
    /// What pixels took from the words in each stage, before the projection that follows.
    pub attended: Vec<Id>,
}

struct Builder<'a> {
    params: &'a mut Params,
    rng: Rng,
}

impl Builder<'_> {
    fn linear(&mut self, name: &str, out: usize, n_in: usize, conv1d: bool) -> Pair {
        let w = self.matrix(name, out, n_in, conv1d);
        (w, self.params.add(format!("{name}.bias"), &[out], Layout::Plain, vec![0.0; out]))
    }

    fn matrix(&mut self, name: &str, out: usize, n_in: usize, conv1d: bool) -> ParamId {
        let values = truncated(&mut self.rng, out * n_in, 0.8 / (n_in as f32).sqrt());
        let shape: &[usize] = if conv1d { &[out, n_in, 1] } else { &[out, n_in] };
        self.params.add(format!("{name}.weight"), shape, Layout::Plain, values)
    }

    fn norm(&mut self, name: &str, n: usize) -> Pair {
        let w = self.params.add(format!("{name}.weight"), &[n], Layout::Plain, vec![1.0; n]);
        (w, self.params.add(format!("{name}.bias"), &[n], Layout::Plain, vec![0.0; n]))
    }

    fn conv(&mut self, name: &str, out: usize, n_in: usize) -> ParamId {
        let values = truncated(&mut self.rng, out * n_in * 9, (2.0 / (n_in as f32 * 9.0)).sqrt());
        self.params.add(format!("{name}.weight"), &[out, n_in, 3, 3], Layout::Taps, values)
    }

    fn batch_norm(&mut self, name: &str, n: usize) -> [ParamId; 4] {
        let (w, b) = self.norm(name, n);
        let mean = self.params.add(format!("{name}.running_mean"), &[n], Layout::Plain, vec![0.0; n]);
        let variance = self.params.add(format!("{name}.running_var"), &[n], Layout::Plain, vec![1.0; n]);
        [w, b, mean, variance]
    }

    /// Sines and cosines of both coordinates, from half a wave over the grid to a quarter wave per cell.
    fn table(&mut self, name: &str, n: usize, grid: usize, sd: f32) -> ParamId {
        let waves = n / 4;
        let (low, high) = (0.5 * std::f32::consts::PI / grid as f32, 0.5 * std::f32::consts::PI);
        let mut values = Vec::with_capacity(n * grid * grid);
        for cell in 0..grid * grid {
            for at in [cell / grid, cell % grid] {
                let at = at as f32 + 0.5 - grid as f32 / 2.0;
                for i in 0..waves {
                    let speed = low * (high / low).powf(i as f32 / (waves - 1) as f32);
                    let (sin, cos) = (at * speed).sin_cos();
                    values.extend([sin, cos].map(|v| v * sd * std::f32::consts::SQRT_2));
                }
            }
        }
        self.params.add(name.to_owned(), &[1, n, grid, grid], Layout::Table, values)
    }
}

impl Model {
    /// Declares all parameters with their initial values.
    pub fn new(params: &mut Params, vocabulary: usize, seed: u64) -> Self {
        let mut b = Builder { params, rng: Rng::new(seed, 0x0001_417a) };
        let patch_values = truncated(&mut b.rng, EMBED * 48, 0.8 / 48f32.sqrt());
        let patch = (
            b.params.add(
                "backbone.patch_embed.proj.weight".into(),
                &[EMBED, 3, 4, 4],
                Layout::Patch,
                patch_values,
            ),
            b.params.add("backbone.patch_embed.proj.bias".into(), &[EMBED], Layout::Plain, vec![0.0; EMBED]),
        );
        let patch_norm = b.norm("backbone.patch_embed.norm", EMBED);
        let ape = b.table("backbone.absolute_pos_embed", EMBED, SIDE / 4, 0.3);
        let stages = (0..4).map(|i| b.stage(i)).collect();
        let e = "text_encoder.embeddings";
        let mut embedding = |name: &str, rows: usize| {
            let values = truncated(&mut b.rng, rows * TEXT, 0.02);
            b.params.add(format!("{e}.{name}.weight"), &[rows, TEXT], Layout::Plain, values)
        };
        let embeddings = [
            embedding("word_embeddings", vocabulary),
            embedding("position_embeddings", WORDS),
            embedding("token_type_embeddings", 2),
        ];
        let text_norm = b.norm(&format!("{e}.LayerNorm"), TEXT);
        let text = (0..TEXT_LAYERS)
            .map(|i| {
                let l = format!("text_encoder.encoder.layer.{i}");
                TextLayer {
                    qkv: ["query", "key", "value"]
                        .map(|n| b.linear(&format!("{l}.attention.self.{n}"), TEXT, TEXT, false)),
                    dense: b.linear(&format!("{l}.attention.output.dense"), TEXT, TEXT, false),
                    norm1: b.norm(&format!("{l}.attention.output.LayerNorm"), TEXT),
                    fc1: b.linear(&format!("{l}.intermediate.dense"), 4 * TEXT, TEXT, false),
                    fc2: b.linear(&format!("{l}.output.dense"), TEXT, 4 * TEXT, false),
                    norm2: b.norm(&format!("{l}.output.LayerNorm"), TEXT),
                }
            })
            .collect();
        let decoder = [4, 3, 2]
            .map(|i: usize| {
                let n_in = if i == 4 { 12 * EMBED } else { HIDDEN + (EMBED << (i - 2)) };
                Level {
                    convs: [
                        b.conv(&format!("classifier.conv1_{i}"), HIDDEN, n_in),
                        b.conv(&format!("classifier.conv2_{i}"), HIDDEN, HIDDEN),
                    ],
                    norms: [1, 2].map(|j| b.batch_norm(&format!("classifier.bn{j}_{i}"), HIDDEN)),
                }
            })
            .into_iter()
            .collect();
        let values = truncated(&mut b.rng, 2 * HIDDEN, 0.8 / (HIDDEN as f32).sqrt());
        let classify = (
            b.params.add("classifier.conv1_1.weight".into(), &[2, HIDDEN, 1, 1], Layout::Plain, values),
            // Training starts at 'all background'.
            b.params.add("classifier.conv1_1.bias".into(), &[2], Layout::Plain, vec![1.2, -1.2]),
        );
        let aux = b.linear("aux.head", 4 * AUX, 4 * EMBED, false);
        Self { patch, patch_norm, ape, stages, embeddings, text_norm, text, decoder, classify, aux }
    }

    /// Sentence features `[images * WORDS, TEXT]`.
    fn encode(&self, t: &mut Tape, plan: &Arc<Plan>, ids: &[u32], mask: &[f32]) -> Id {
        let positions = (0..ids.len()).map(|i| (i % WORDS) as u32).collect();
        let [words, places, types] = self.embeddings;
        let tables = [(words, ids.to_vec()), (places, positions), (types, vec![0; ids.len()])];
        let mut x = t.embed(&tables, TEXT);
        x = t.layer_norm(x, self.text_norm.0, self.text_norm.1, 1e-12);
        let hidden: Vec<f32> = mask.iter().map(|m| (1.0 - m) * -1e4).collect();
        for l in &self.text {
            let [q, k, v] = l.qkv.map(|p| (t.linear(x, p.0, Some(p.1)), 0));
            let a = t.attention(plan, q, k, v, &hidden);
            let a = t.linear(a, l.dense.0, Some(l.dense.1));
            let a = t.add(a, x);
            x = t.layer_norm(a, l.norm1.0, l.norm1.1, 1e-12);
            let h = t.linear(x, l.fc1.0, Some(l.fc1.1));
            let h = t.gelu(h);
            let h = t.linear(h, l.fc2.0, Some(l.fc2.1));
            let h = t.add(h, x);
            x = t.layer_norm(h, l.norm2.0, l.norm2.1, 1e-12);
        }
        x
    }

    /// `patches` is `[images * (side / 4)^2, 48]` of normalised pixels in the order (row, column, channel).
    pub fn forward(
        &self,
        t: &mut Tape,
        plans: &Plans,
        patches: Vec<f32>,
        ids: &[u32],
        mask: &[f32],
    ) -> Output {
        let words = self.encode(t, &plans.text, ids, mask);
        let hidden: Vec<f32> = mask.iter().map(|m| 1e4 * m - 1e4).collect();
        let x = t.leaf(patches, 48);
        let x = t.linear(x, self.patch.0, Some(self.patch.1));
        let x = t.layer_norm(x, self.patch_norm.0, self.patch_norm.1, 1e-5);
        let mut grid = plans.side / 4;
        let mut x = t.add_table(x, self.ape, SIDE / 4, grid);
        let mut features = Vec::new();
        let mut aux = x;
        let mut attended = Vec::new();
        for (i, s) in self.stages.iter().enumerate() {
            let n = EMBED << i;
            for (b, plan) in s.blocks.iter().zip(&plans.windows[i]) {
                let h = t.layer_norm(x, b.norm1.0, b.norm1.1, 1e-5);
                let qkv = t.linear(h, b.qkv.0, Some(b.qkv.1));
                let h = t.attention(plan, (qkv, 0), (qkv, n), (qkv, 2 * n), &[]);
                let h = t.linear(h, b.proj.0, Some(b.proj.1));
                x = t.add(x, h);
                let h = t.layer_norm(x, b.norm2.0, b.norm2.1, 1e-5);
                let h = t.linear(h, b.fc1.0, Some(b.fc1.1));
                let h = t.gelu(h);
                let h = t.linear(h, b.fc2.0, Some(b.fc2.1));
                x = t.add(x, h);
            }
            if i == 2 && t.train {
                aux = t.linear(x, self.aux.0, Some(self.aux.1));
            }
            let vis = t.linear(x, s.vis.0, Some(s.vis.1));
            let vis = t.gelu(vis);
            let q = t.linear(x, s.query.0, Some(s.query.1));
            let q = t.instance_norm(q, grid * grid);
            let [k, v] = [s.key, s.value].map(|p| {
                let y = t.linear(words, p.0, Some(p.1));
                t.scale_rows(y, mask)
            });
            let a = t.attention(&plans.fusion[i], (q, 0), (k, 0), (v, 0), &hidden);
            attended.push(a);
            let a = t.linear(a, s.out.0, Some(s.out.1));
            let a = t.instance_norm(a, grid * grid);
            let r = t.mul(vis, a);
            let r = t.linear(r, s.mm.0, Some(s.mm.1));
            let r = t.gelu(r);
            features.push((t.layer_norm(r, s.norm.0, s.norm.1, 1e-5), grid));
            if let Some((norm, reduction, table)) = s.merging {
                let g = t.linear(r, s.gate[0], None);
                let g = t.relu(g);
                let g = t.linear(g, s.gate[1], None);
                let g = t.tanh(g);
                let g = t.mul(g, r);
                x = t.add(x, g);
                x = t.merge(x, grid);
                x = t.layer_norm(x, norm.0, norm.1, 1e-5);
                x = t.linear(x, reduction, None);
                grid /= 2;
                x = t.add_table(x, table, (SIDE / 8) >> i, grid);
            }
        }
        let (mut y, mut from) = features[3];
        for (level, &(c, to)) in self.decoder.iter().zip(features[..3].iter().rev()) {
            y = t.upsample(y, from, to);
            y = t.concat(y, c);
            for (conv, norm) in level.convs.iter().zip(level.norms) {
                y = t.conv3x3(y, *conv, to);
                y = t.batch_norm_relu(y, norm);
            }
            from = to;
        }
        let logits = t.linear(y, self.classify.0, Some(self.classify.1));
        Output { logits, aux, attended }
    }

    /// Bias of the word values of each stage.
    pub fn value_biases(&self) -> Vec<ParamId> {
        self.stages.iter().map(|s| s.value.1).collect()
    }

    /// Attention layouts for pictures of `side` x `side`.
    pub fn plans(&self, side: usize) -> Plans {
        let windows = (0..4)
            .map(|i| {
                let stage = &self.stages[i];
                let plan = |(j, b): (usize, &Block)| {
                    let dim = (EMBED << i) / HEADS[i];
                    Arc::new(Plan::windows((side / 4) >> i, WINDOW, j % 2 == 1, HEADS[i], dim, b.table))
                };
                stage.blocks.iter().enumerate().map(plan).collect()
            })
            .collect();
        let fusion = (0..4)
            .map(|i| {
                let grid = (side / 4) >> i;
                Arc::new(Plan::dense(grid * grid, WORDS, 1, EMBED << i))
            })
            .collect();
        Plans {
            side,
            windows,
            fusion,
            text: Arc::new(Plan::dense(WORDS, WORDS, TEXT_HEADS, TEXT / TEXT_HEADS)),
        }
    }
}

impl Builder<'_> {
    fn stage(&mut self, i: usize) -> Stage {
        let n = EMBED << i;
        let s = format!("backbone.layers.{i}");
        let f = format!("{s}.fusion");
        let blocks = (0..DEPTHS[i])
            .map(|j| {
                let p = format!("{s}.blocks.{j}");
                let entries = (2 * WINDOW - 1) * (2 * WINDOW - 1);
                let table = truncated(&mut self.rng, entries * HEADS[i], 0.02);
                let name = format!("{p}.attn.relative_position_bias_table");
                Block {
                    norm1: self.norm(&format!("{p}.norm1"), n),
                    qkv: self.linear(&format!("{p}.attn.qkv"), 3 * n, n, false),
                    proj: self.linear(&format!("{p}.attn.proj"), n, n, false),
                    table: self.params.add(name, &[entries, HEADS[i]], Layout::Plain, table),
                    norm2: self.norm(&format!("{p}.norm2"), n),
                    fc1: self.linear(&format!("{p}.mlp.fc1"), 4 * n, n, false),
                    fc2: self.linear(&format!("{p}.mlp.fc2"), n, 4 * n, false),
                }
            })
            .collect();
        let a = format!("{f}.image_lang_att");
        Stage {
            blocks,
            vis: self.linear(&format!("{f}.vis_project.0"), n, n, true),
            key: self.linear(&format!("{a}.f_key.0"), n, TEXT, true),
            query: self.linear(&format!("{a}.f_query.0"), n, n, true),
            value: self.linear(&format!("{a}.f_value.0"), n, TEXT, true),
            out: self.linear(&format!("{a}.W.0"), n, n, true),
            mm: self.linear(&format!("{f}.project_mm.0"), n, n, true),
            gate: [0, 2].map(|g| self.matrix(&format!("{s}.res_gate.{g}"), n, n, false)),
            norm: self.norm(&format!("backbone.norm{i}"), n),
            merging: (i < 3).then(|| {
                let d = format!("{s}.downsample");
                let norm = self.norm(&format!("{d}.norm"), 4 * n);
                let reduction = self.matrix(&format!("{d}.reduction"), 2 * n, 4 * n, false);
                (norm, reduction, self.table(&format!("{d}.absolute_pos_embed"), 2 * n, (SIDE / 8) >> i, 0.5))
            }),
        }
    }
}
