//! The command line: what can be said, and nothing that is done.

use std::path::PathBuf;

use bitloupe_quant::eval::sensitivity::By;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// See what quantization does to a vision or image-text transformer, layer by layer, and choose the best plan.
#[derive(Debug, Parser)]
#[command(name = "bitloupe", version, max_term_width = 110, subcommand_precedence_over_arg = true)]
pub struct Cli {
    #[command(flatten)]
    pub ui: Ui,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What opens a model.
#[derive(Debug, Args, Clone, Default)]
pub struct ModelArgs {
    /// Model folder as the hub lays it out, .safetensors, torch .pth, .pt or .bin, or .onnx; the bundled model if omitted
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Bundled model to open when MODEL is omitted: lavt-mini, lavt-mini-planted
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub sample: Option<String>,
    /// Worker threads (default: all cores)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Memory for values kept between runs, such as 2G; more makes edits, evaluations and sweeps quicker
    #[arg(long, value_name = "BYTES", value_parser = crate::size::bytes, default_value = "512M")]
    pub cache: usize,
}

/// Options of the terminal interface.
#[derive(Debug, Args)]
pub struct Ui {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Samples to look at: a folder of pictures, a samples.jsonl or COCO annotations.json
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// Calibration set, in the same forms
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Plan to start from; saving writes it back
    #[arg(long, value_name = "P")]
    pub plan: Option<PathBuf>,
    /// Where `e` exports to
    #[arg(long, value_name = "FOLDER", default_value = "bitloupe-export")]
    pub export: PathBuf,
    /// Colours: auto asks the terminal
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Letters and signs of ASCII only
    #[arg(long)]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
}

/// Depth of colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Truecolor,
    #[value(name = "256")]
    Ansi256,
    #[value(name = "16")]
    Ansi16,
    None,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Architecture, layers, sites, roles, parameters and multiply-accumulates
    Info {
        #[command(flatten)]
        model: ModelArgs,
        /// Sum up modules to this many steps of their paths, and list no sites
        #[arg(long, value_name = "N")]
        depth: Option<usize>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run raw tensors through the model and write its outputs
    Run(Run),
    /// Gather the distribution of every site over a calibration set
    Calibrate(Calibrate),
    /// Join statistics of several calibrations
    Merge {
        /// Statistics files
        #[arg(required = true, num_args = 1..)]
        stats: Vec<PathBuf>,
        /// Where to write
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Class and figures of every site, of a statistics file, a model, or one tensor of a file
    Stats(Stats),
    /// Fit one quantizer to one tensor and write what it makes of it
    Fit(Fit),
    /// Make, show, compare, check and change plans
    #[command(subcommand)]
    Plan(Plan),
    /// Metrics of the quantized model against truth and full precision
    Eval(Eval),
    /// What each part of the model costs when it is quantized, the most harmful first
    Sensitivity(Sensitivity),
    /// Find the best plan under a budget, and a front of plans for others
    Search(Search),
    /// Say where the accuracy goes and what would help, per site and for the whole model
    Explain(Explain),
    /// Write plan, quantized weights and a report
    Export(Export),
    /// Print a completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tensors named as the model's inputs (pixel_values, input_ids, attention_mask), any batch size
    #[arg(long, value_name = "IN.safetensors")]
    pub inputs: PathBuf,
    /// Where to write
    #[arg(long, short, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Also write `tap/NAME` for every node and site whose name matches
    #[arg(long, value_name = "REGEX")]
    pub taps: Option<String>,
    /// Run under this plan (fitted)
    #[arg(long, value_name = "P")]
    pub plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Calibrate {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Calibration set; the bundled one for a bundled model
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Where to write the statistics
    #[arg(long, short, value_name = "STATS")]
    pub output: PathBuf,
    /// Add to the statistics that are there, leaving out samples that are counted already
    #[arg(long)]
    pub resume: bool,
    /// Only the first N samples
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Statistics file, model, or a safetensors file with --tensor; the bundled model if omitted
    #[arg(value_name = "STATS|MODEL")]
    pub source: Option<PathBuf>,
    /// Bundled model to take when the first argument is omitted
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    pub sample: Option<String>,
    /// Calibration set for a model
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Only sites whose name matches
    #[arg(long, value_name = "REGEX")]
    pub site: Option<String>,
    /// One tensor of a safetensors file
    #[arg(long, value_name = "NAME", requires = "source")]
    pub tensor: Option<String>,
    /// Channel axis of --tensor; negative counts from the end
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub axis: Option<isize>,
    /// Draw a histogram of each
    #[arg(long)]
    pub histogram: bool,
    /// Worker threads (default: all cores)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub struct Fit {
    /// File with the tensor
    #[arg(value_name = "FILE.safetensors")]
    pub file: PathBuf,
    /// Its name; several are calibration batches in this order, and the output is for the first
    #[arg(long, value_name = "NAME", required = true)]
    pub tensor: Vec<String>,
    /// What the tensor is multiplied by, for quantizers that look at the product: the value tensor of an
    /// attention, or the weight of the next linear layer; as many as --tensor, or one for all
    #[arg(long, value_name = "NAME")]
    pub with: Vec<String>,
    /// uniform, log2, log-sqrt2, agq, adalog, lnq, log-int-softmax, drq-gelu, drq-softmax, rorq, ptf, hluq or
    /// channel-groups
    #[arg(long, value_name = "Q")]
    pub quantizer: String,
    /// 2 to 8 or 16
    #[arg(long, value_name = "B")]
    pub bits: u8,
    /// minmax, percentile, mse, kl, average-min-max, ema:MOMENTUM[,EXPONENT], bounded:EXPONENT, shrink or omse
    /// (default: that of the quantizer's paper)
    #[arg(long, value_name = "R")]
    pub range: Option<String>,
    /// Percentiles to try (with --range percentile; default .999 .9999 .99999)
    #[arg(long, value_name = "P", num_args = 1.., requires = "range")]
    pub level: Vec<f64>,
    /// Exponent of the error (with --range mse; default 2)
    #[arg(long, value_name = "X")]
    pub p: Option<f64>,
    /// tensor, channel or head
    #[arg(long, value_name = "G", default_value = "tensor")]
    pub granularity: String,
    /// Axis of channels or heads; negative counts from the end (default: the first for two or four axes, else the last; of
    /// heads the third from the end)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub axis: Option<isize>,
    /// Grid centred at zero
    #[arg(long)]
    pub symmetric: bool,
    /// Fit on the raw values instead of their sketch
    #[arg(long)]
    pub exact: bool,
    /// Reproduce the released code of the paper where it is known to be wrong
    #[arg(long)]
    pub paper: bool,
    /// Of lnq: true (as many levels as the bits have codes) or released (one more, as the published code has it)
    #[arg(long, value_name = "L", default_value = "true", value_parser = ["true", "released"])]
    pub levels: String,
    /// Use these parameters instead of searching: scale=…, zero_point=…
    #[arg(long, value_name = "K=V")]
    pub set: Vec<String>,
    /// Where to write `quantized`, `levels` and the parameters
    #[arg(long, short, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Bits and method of a plan that is made on the spot.
#[derive(Debug, Args, Clone)]
pub struct MethodArgs {
    /// A published recipe; `bitloupe plan methods` lists them
    #[arg(long, value_name = "M")]
    pub method: Option<String>,
    /// Bits of weights: 2 to 8, 16 or float
    #[arg(long, short, value_name = "B", default_value = "8")]
    pub weights: String,
    /// Bits of activations: 2 to 8, 16 or float
    #[arg(long, short, value_name = "B", default_value = "8")]
    pub activations: String,
    /// Bits of the layer that reads the picture (default: as the method's paper)
    #[arg(long, value_name = "B")]
    pub patch_bits: Option<String>,
    /// Bits of the last layers (default: as the method's paper)
    #[arg(long, value_name = "B")]
    pub last_bits: Option<String>,
    /// Bits of attention probabilities (default: as the method's paper)
    #[arg(long, value_name = "B")]
    pub softmax_bits: Option<String>,
    /// Fit on the first 32 calibration samples themselves, layer by layer as the method's paper does, instead of on
    /// sketches: ptq4vit and ptq4ris then search with gradients of the loss, saq-sam looks at the attention
    #[arg(long)]
    pub exact: bool,
    /// Range search of uniform weights in place of the method's: min-max, mse, percentile, …; with --exact also
    /// `output`, the least error of the layer's output, for weights with a scale per channel
    #[arg(long, value_name = "RANGE")]
    pub weight_range: Option<String>,
    /// Reproduce the released code of the method's paper where it is known to be wrong
    #[arg(long)]
    pub paper: bool,
}

#[derive(Debug, Subcommand)]
pub enum Plan {
    /// Make a plan with one method, or take a preset, and fit it
    New {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        method: MethodArgs,
        /// A ready-made plan in place of a method: "as in the file" is the one that a quantized ONNX file carries, the
        /// others are listed where the name is not known
        #[arg(
            long,
            value_name = "NAME",
            conflicts_with_all = [
                "method", "weights", "activations", "patch_bits", "last_bits", "softmax_bits", "weight_range", "paper"
            ]
        )]
        preset: Option<String>,
        /// Calibration set; the bundled one for a bundled model
        #[arg(long, short, value_name = "C")]
        calibration: Option<PathBuf>,
        /// Where to write
        #[arg(long, short, value_name = "P")]
        output: PathBuf,
    },
    /// Print a plan as a table
    Show {
        /// The plan
        plan: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print where two plans differ
    Diff {
        /// One plan
        a: PathBuf,
        /// Another
        b: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that a plan belongs to a model and names only its sites
    Check {
        /// The plan
        plan: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
    },
    /// Change sites of a plan and fit them anew
    Set {
        /// The plan
        plan: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
        /// Sites whose name matches
        #[arg(long, value_name = "REGEX")]
        site: String,
        /// Bits: 2 to 8, 16 or float
        #[arg(long, short, value_name = "B")]
        bits: Option<String>,
        /// Quantizer and range, e.g. `uniform percentile`, `log-sqrt2`
        #[arg(long, value_name = "Q")]
        quantizer: Option<String>,
        /// Fit on the calibration samples themselves, as the ranges `hessian`, `output` and `overlap` ask for
        #[arg(long)]
        exact: bool,
        /// Calibration set; the bundled one for a bundled model
        #[arg(long, short, value_name = "C")]
        calibration: Option<PathBuf>,
        /// Where to write (default: over the plan)
        #[arg(long, short, value_name = "P")]
        output: Option<PathBuf>,
    },
    /// Switch a rewrite on or off and fit what it changes anew
    Rewrite {
        /// The plan
        plan: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
        /// LayerNorms, products or BatchNorms whose name matches
        #[arg(long, value_name = "REGEX", default_value = "")]
        layer: String,
        /// layernorm-reparameterization, smoothing, sign-folding or batchnorm-folding
        #[arg(long, value_name = "REWRITE", required_unless_present = "off")]
        on: Option<String>,
        /// The same, to take it back
        #[arg(long, value_name = "REWRITE", conflicts_with = "on")]
        off: Option<String>,
        /// Of smoothing: how much of the spread of the channels goes into the weight, 0 to 1 (default 0.5)
        #[arg(long, value_name = "A", requires = "on")]
        alpha: Option<f32>,
        /// Calibration set; the bundled one for a bundled model
        #[arg(long, short, value_name = "C")]
        calibration: Option<PathBuf>,
        /// Where to write (default: over the plan)
        #[arg(long, short, value_name = "P")]
        output: Option<PathBuf>,
    },
    /// List the methods and what they do
    Methods {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of plan files
    Schema,
}

#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Samples; the bundled ones for a bundled model
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// Calibration set, where the plan is not fitted or a method is given
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Plan to evaluate; without plan and method only full precision is
    #[arg(long, value_name = "P", conflicts_with = "method")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub method: MethodArgs,
    /// Take the weights from an export instead of quantizing the model's
    #[arg(long, value_name = "WEIGHTS.safetensors", requires = "plan")]
    pub exported: Option<PathBuf>,
    /// Only the first N samples
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Exit with 3 if the quantized mIoU (top-1, box F1, cosine, letters: the first figure of the task) is below this
    #[arg(long, visible_alias = "min", value_name = "X")]
    pub min_miou: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Sensitivity {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Samples; the bundled ones for a bundled model
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// Calibration set; the bundled one for a bundled model
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Plan whose choices are measured; without it those of a method (default: minmax)
    #[arg(long, value_name = "P", conflicts_with = "method")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub method: MethodArgs,
    /// What counts as one part: site, layer, role, block (layers of one path up to its last number) or kind (all
    /// weights, all activations)
    #[arg(long, value_name = "PART", default_value = "site")]
    pub by: By,
    /// Quantize only the part, all but the part, or measure both
    #[arg(long, value_enum, default_value_t = Ways::Only)]
    pub mode: Ways,
    /// Measure on the samples, on the calibration set, or on both side by side
    #[arg(long, value_enum, default_value_t = OnSet::Samples)]
    pub on: OnSet,
    /// The first N samples
    #[arg(long, short = 'n', value_name = "N", default_value_t = 32)]
    pub limit: usize,
    /// Keep outcomes in this file and go on from those that are there
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Only the N most harmful parts
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a part is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ways {
    Only,
    AllBut,
    Both,
}

/// Which samples are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnSet {
    Samples,
    Calibration,
    Both,
}

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    pub model: ModelArgs,
    /// At most so many bits on average, of weights and of activations alike (full precision counts as 16)
    #[arg(long, value_name = "X", group = "budget")]
    pub avg_bits: Option<f64>,
    /// At most so many bytes of weights, such as 300K; activations get what loses least
    #[arg(long, value_name = "BYTES", value_parser = crate::size::bytes, group = "budget")]
    pub max_size: Option<usize>,
    /// At most so many bit-operations a sample: the sum over layers of MACs × weight bits × activation bits
    #[arg(long, value_name = "N", group = "budget")]
    pub max_bitops: Option<f64>,
    /// Calibration set, all that the search looks at; the bundled one for a bundled model
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Samples for the figures in the end; the bundled ones for a bundled model
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// When to end. What the time does not suffice for is left out and said
    #[arg(long, value_name = "M", default_value_t = bitloupe_quant::session::MINUTES as f64)]
    pub minutes: f64,
    /// Let q, k and v of one attention have choices of their own
    #[arg(long)]
    pub untied: bool,
    /// Solve for another budget from the folder of an earlier search, without running anything
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Folder to write plans, front.json and scores.json into
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Plan to explain; without a plan and a method, --site shows what every choice would do to sites in full precision, at
    /// the bits that --weights and --activations say
    #[arg(long, value_name = "P", conflicts_with = "method", required_unless_present_any = ["method", "site"])]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub method: MethodArgs,
    /// Explain each site whose name matches, instead of the whole model
    #[arg(long, value_name = "REGEX")]
    pub site: Option<String>,
    /// Order the sites by what `bitloupe sensitivity --json` wrote into this file, instead of by predicted SQNR
    #[arg(long, value_name = "FILE", conflicts_with = "site")]
    pub ranking: Option<PathBuf>,
    /// Try the first remedy of each explained site (of the three worst for the whole model) on samples
    #[arg(long)]
    pub confirm: bool,
    /// Samples: held out for comparison with calibration, for swapped sentences, and to confirm on; the bundled ones for a
    /// bundled model
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// Calibration set; the bundled one for a bundled model
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
    /// Samples that are run at most
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub limit: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The plan
    #[arg(long, value_name = "P")]
    pub plan: PathBuf,
    /// all, plan, weights or report
    #[arg(long, short, value_name = "F", default_value = "all")]
    pub format: String,
    /// Folder to write into
    #[arg(long, short, value_name = "OUT")]
    pub output: PathBuf,
    /// Samples for the report's metrics
    #[arg(long, value_name = "S")]
    pub samples: Option<PathBuf>,
    /// Calibration set
    #[arg(long, short, value_name = "C")]
    pub calibration: Option<PathBuf>,
}
