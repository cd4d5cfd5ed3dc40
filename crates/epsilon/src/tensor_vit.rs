//! The Vision Transformer and its relatives over the tensor framework: for GPUs, and for training the built-in
//! backbone.

use burn::tensor::{Device, FloatDType, Tensor, TensorData, activation};

use crate::device;
use crate::fused::gelu::gelu;
use crate::fused::layer_norm::layer_norm;
use crate::fused::linear::linear;
use crate::fused::self_attention;
use crate::parameters::{Spec, Start, Weights};
use crate::tensor_vgg::{TensorVgg, pending};
use epsilon_vision::backbone::{
    self, Activation, Backbone, BackboneError, BackboneInfo, BlockConfig, Engine, Features, Global,
    HeadInput, Network, Options, Pending, Precision, VitConfig, VitWeights,
};
use std::path::Path;

/// Loads a backbone onto a device: the CPU has an engine of its own ([`backbone::load_with`]), others run the tensor framework's.
/// Where the options name another engine, the device is that engine's.
///
/// # Errors
/// See [`BackboneError`]; [`BackboneError::Device`] for a precision that the device does not compute in.
pub fn load_on(
    path: &Path,
    options: &Options,
    device: &Device,
) -> Result<Box<dyn Backbone>, BackboneError> {
    if *device == Device::flex() || options.engine != Engine::Own {
        return backbone::load_with(path, options);
    }
    let precision = options.precision;
    let refused = |what| Err(BackboneError::Device { precision, what });
    let half = match precision {
        Precision::F32 => None,
        Precision::F16 => Some(FloatDType::F16),
        Precision::Bf16 => Some(FloatDType::BF16),
        Precision::Int8 => return refused("any network"),
    };
    if half.is_some_and(|half| !device.supports_dtype(half)) {
        return refused("any network");
    }
    match backbone::read(path, options)? {
        Network::Vit(weights) => Ok(Box::new(TensorVit::new(&weights, device, half))),
        Network::Vgg(_) if half.is_some() => refused("a VGG"),
        Network::Vgg(weights) => Ok(Box::new(TensorVgg::new(&weights, device))),
    }
}

/// Names (timm's), shapes and starts of the weights; `cls_token` holds all tokens before the patches. The classifier,
/// the normalisation before the blocks and the projection are left out.
pub fn specs(config: &VitConfig) -> Vec<Spec> {
    let (width, patch) = (config.blocks.dim, 3 * config.patch * config.patch);
    let mut specs = Vec::new();
    if config.prefix > 0 {
        let start = Start::TruncatedNormal(0.02);
        specs.push(Spec::new("cls_token", &[config.prefix, width], start));
    }
    specs.push(Spec::new(
        "pos_embed",
        &[config.prefix + config.grid * config.grid, width],
        Start::TruncatedNormal(0.02),
    ));
    let mut linear = |name: &str, inputs: usize, outputs: usize| {
        specs.push(Spec::new(
            format!("{name}.weight"),
            &[outputs, inputs],
            Start::linear(inputs),
        ));
        specs.push(Spec::new(
            format!("{name}.bias"),
            &[outputs],
            Start::Constant(0.0),
        ));
    };
    linear("patch_embed.proj", patch, width);
    for block in 0..config.blocks.depth {
        linear(&format!("blocks.{block}.attn.qkv"), width, 3 * width);
        linear(&format!("blocks.{block}.attn.proj"), width, width);
        linear(
            &format!("blocks.{block}.mlp.fc1"),
            width,
            config.blocks.hidden,
        );
        linear(
            &format!("blocks.{block}.mlp.fc2"),
            config.blocks.hidden,
            width,
        );
    }
    let mut norm = |name: &str| {
        specs.push(Spec::new(
            format!("{name}.weight"),
            &[width],
            Start::Constant(1.0),
        ));
        specs.push(Spec::new(
            format!("{name}.bias"),
            &[width],
            Start::Constant(0.0),
        ));
    };
    for block in 0..config.blocks.depth {
        norm(&format!("blocks.{block}.norm1"));
        norm(&format!("blocks.{block}.norm2"));
    }
    norm("norm");
    specs
}

/// All tokens `[B, P + N, D]` after the final LayerNorm, those before the patches first, of normalised images
/// `[B, 3, S, S]`.
pub fn forward(config: &VitConfig, weights: &Weights, images: Tensor<4>) -> Tensor<3> {
    forward_in(config, weights, None, images)
}

/// [`forward`], large products in half precision where there is one.
fn forward_in(
    config: &VitConfig,
    weights: &Weights,
    half: Option<FloatDType>,
    images: Tensor<4>,
) -> Tensor<3> {
    let net = Net {
        config: &config.blocks,
        weights,
        half,
    };
    let [count, _, size, _] = images.dims();
    let (grid, patch, width) = (config.grid, config.patch, config.blocks.dim);
    debug_assert_eq!(size, grid * patch);
    let patches = images
        .reshape([count, 3, grid, patch, grid, patch])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([count, grid * grid, 3 * patch * patch]);
    let mut x = net.linear("patch_embed.proj", patches);
    if config.prefix > 0 {
        let prefix: Tensor<2> = weights.get("cls_token");
        let prefix = prefix
            .unsqueeze::<3>()
            .expand([count, config.prefix, width]);
        x = Tensor::cat(vec![prefix, x], 1);
    }
    let place: Tensor<2> = weights.get("pos_embed");
    x = x + place.unsqueeze();
    if weights.has("norm_pre.weight") {
        x = net.norm("norm_pre", x);
    }
    for block in 0..config.blocks.depth {
        let name = |part: &str| format!("blocks.{block}.{part}");
        let mixed = net.attention(&name("attn"), net.norm(&name("norm1"), x.clone()));
        x = x + mixed;
        let hidden = net.linear(&name("mlp.fc1"), net.norm(&name("norm2"), x.clone()));
        x = x + net.linear(&name("mlp.fc2"), net.activation(hidden));
    }
    net.norm("norm", x)
}

struct Net<'a> {
    config: &'a BlockConfig,
    weights: &'a Weights,
    /// What the products of the blocks are computed in, if not in f32; what stands between them is f32.
    half: Option<FloatDType>,
}

impl Net<'_> {
    fn linear(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let weight: Tensor<2> = self.weights.get(&format!("{name}.weight"));
        let bias: Tensor<1> = self.weights.get(&format!("{name}.bias"));
        let Some(half) = self.half.filter(|_| is_halved(name)) else {
            return linear(x, weight.transpose(), bias);
        };
        let [count, rows, width] = x.dims();
        let x = x.reshape([count * rows, width]).cast(half);
        let out = x.matmul(weight.transpose()).cast(FloatDType::F32);
        let outputs = bias.dims()[0];
        (out + bias.unsqueeze()).reshape([count, rows, outputs])
    }

    fn norm(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        layer_norm(
            x,
            self.weights.get(&format!("{name}.weight")),
            self.weights.get(&format!("{name}.bias")),
            self.config.layer_norm_eps,
        )
    }

    fn activation(&self, x: Tensor<3>) -> Tensor<3> {
        match self.config.activation {
            Activation::Gelu => gelu(x),
            Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            Activation::TanhGelu => {
                let inner = x.clone() + x.clone().powi_scalar(3) * 0.044_715;
                x * activation::sigmoid(inner * (8.0 / std::f64::consts::PI).sqrt())
            }
        }
    }

    /// Query, keys or values (0, 1, 2) of the pooling head.
    fn pool_part(&self, part: usize, x: Tensor<3>) -> Tensor<3> {
        let [count, rows, width] = x.dims();
        let weight: Tensor<2> = self.weights.get("pool.qkv.weight");
        let bias: Tensor<1> = self.weights.get("pool.qkv.bias");
        let weight = weight.narrow(0, part * width, width);
        let bias = bias.narrow(0, part * width, width);
        (x.reshape([count * rows, width]).matmul(weight.transpose()) + bias.unsqueeze())
            .reshape([count, rows, width])
    }

    /// What the pooling head makes of mixed values.
    fn pool_end(&self, mixed: Tensor<3>) -> Tensor<3> {
        let x = self.linear("pool.proj", mixed);
        let hidden = self.linear("pool.fc1", self.norm("pool.norm", x.clone()));
        x + self.linear("pool.fc2", self.activation(hidden))
    }

    /// The pooling head's vector of tokens `[B, N, D]`, `[B, 1, D]`.
    fn pool(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [count, rows, width] = tokens.dims();
        let heads = self.config.heads;
        let head = width / heads;
        let probe: Tensor<1> = self.weights.get("pool.probe");
        let probe = probe.reshape([1, 1, width]).expand([count, 1, width]);
        let split = |x: Tensor<3>, rows| x.reshape([count, rows, heads, head]).swap_dims(1, 2);
        let query = split(self.pool_part(0, probe), 1);
        let keys = split(self.pool_part(1, tokens.clone()), rows);
        let values = split(self.pool_part(2, tokens), rows);
        let logits = query.matmul(keys.swap_dims(2, 3)) * (head as f64).sqrt().recip();
        let mixed = activation::softmax(logits, 3).matmul(values);
        self.pool_end(mixed.swap_dims(1, 2).reshape([count, 1, width]))
    }

    fn attention(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let qkv = self.linear(&format!("{name}.qkv"), x);
        let mixed = match self.half {
            None => self_attention::self_attention(qkv, self.config.heads),
            Some(half) => {
                self_attention::in_half(qkv.cast(half), self.config.heads).cast(FloatDType::F32)
            }
        };
        self.linear(&format!("{name}.proj"), mixed)
    }
}

/// Whether the linear map of this name is computed in half precision where the network is: those of the blocks, which take the time.
fn is_halved(name: &str) -> bool {
    name.starts_with("blocks.")
}

/// The weights, those maps' in half precision if they are to be.
fn halved(mut weights: Weights, half: Option<FloatDType>) -> Weights {
    let maps: Vec<bool> = weights
        .trained()
        .map(|(spec, _)| is_halved(&spec.name) && spec.shape.len() == 2)
        .collect();
    weights.change(|place, value| match half {
        Some(half) if maps[place] => value.cast(half),
        _ => value,
    });
    weights
}

/// What the network is, and what it is computed in.
fn info_in(weights: &VitWeights, half: Option<FloatDType>) -> BackboneInfo {
    let precision = match half {
        None => Precision::F32,
        Some(FloatDType::BF16) => Precision::Bf16,
        Some(_) => Precision::F16,
    };
    BackboneInfo {
        precision,
        ..weights.info()
    }
}

/// A Vision Transformer on a device of the framework.
pub struct TensorVit {
    config: VitConfig,
    half: Option<FloatDType>,
    info: BackboneInfo,
    weights: Weights,
    /// What each part of the classifier reads, where its scores are the global vector.
    head: Vec<HeadInput>,
    device: Device,
}

impl TensorVit {
    /// Puts the weights on a device, which has `half` where the blocks' products are to be computed in that.
    pub fn new(weights: &VitWeights, device: &Device, half: Option<FloatDType>) -> Self {
        let config = weights.config.clone();
        let mut specs = specs(&config);
        let mut values = std::collections::BTreeMap::from([
            ("cls_token".to_string(), weights.prefix_tokens.clone()),
            ("pos_embed".to_string(), weights.pos_embed.clone()),
        ]);
        let mut probe = None;
        let mut put = |name: String, weight: &[f32], bias: &[f32]| {
            values.insert(format!("{name}.weight"), weight.to_vec());
            values.insert(format!("{name}.bias"), bias.to_vec());
        };
        let mut more = |name: &str, shape: &[usize]| {
            let start = Start::Constant(0.0);
            specs.push(Spec::new(format!("{name}.weight"), shape, start));
            specs.push(Spec::new(format!("{name}.bias"), &shape[..1], start));
        };
        if let Some(norm) = &weights.norm_pre {
            more("norm_pre", &[config.blocks.dim]);
            put("norm_pre".into(), &norm.weight, &norm.bias);
        }
        if let Some(pool) = &weights.pool {
            let (dim, hidden) = (config.blocks.dim, pool.fc1.bias.len());
            for (name, linear, shape) in [
                ("pool.qkv", &pool.qkv, [3 * dim, dim]),
                ("pool.proj", &pool.proj, [dim, dim]),
                ("pool.fc1", &pool.fc1, [hidden, dim]),
                ("pool.fc2", &pool.fc2, [dim, hidden]),
            ] {
                more(name, &shape);
                put(name.into(), &linear.weight, &linear.bias);
            }
            more("pool.norm", &[dim]);
            put("pool.norm".into(), &pool.norm.weight, &pool.norm.bias);
            probe = Some(pool.probe.clone());
        }
        if let Some(map) = &weights.projection {
            more("projection", &[map.bias.len(), config.blocks.dim]);
            put("projection".into(), &map.weight, &map.bias);
        }
        let mut head = Vec::new();
        if config.global == Global::Classes {
            for (index, part) in weights.head.iter().enumerate() {
                let name = format!("head.{index}");
                more(&name, &[part.map.bias.len(), config.blocks.dim]);
                put(name, &part.map.weight, &part.map.bias);
                head.push(part.input);
            }
        }
        put(
            "patch_embed.proj".into(),
            &weights.patch_embed.weight,
            &weights.patch_embed.bias,
        );
        put("norm".into(), &weights.norm.weight, &weights.norm.bias);
        for (index, block) in weights.blocks.iter().enumerate() {
            let name = |part: &str| format!("blocks.{index}.{part}");
            put(name("attn.qkv"), &block.qkv.weight, &block.qkv.bias);
            put(name("attn.proj"), &block.proj.weight, &block.proj.bias);
            put(name("mlp.fc1"), &block.fc1.weight, &block.fc1.bias);
            put(name("mlp.fc2"), &block.fc2.weight, &block.fc2.bias);
            put(name("norm1"), &block.norm1.weight, &block.norm1.bias);
            put(name("norm2"), &block.norm2.weight, &block.norm2.bias);
        }
        if let Some(values_of) = probe {
            let shape = [config.blocks.dim];
            specs.push(Spec::new("pool.probe", &shape, Start::Constant(0.0)));
            values.insert("pool.probe".into(), values_of);
        }
        let weights_on = Weights::from_values(specs, values, device)
            .expect("loading has checked every shape against the configuration");
        Self {
            info: info_in(weights, half),
            half,
            weights: halved(weights_on, half),
            head,
            device: device.clone(),
            config,
        }
    }
}

impl Backbone for TensorVit {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError> {
        self.begin(images, count)?(out)
    }

    fn start(
        &self,
        images: &[f32],
        count: usize,
        _: &mut Features,
    ) -> Result<Option<Pending>, BackboneError> {
        self.begin(images, count).map(Some)
    }

    fn device_batch(&self) -> Option<usize> {
        // Queries, keys and values, the hidden layer, and every head's attention.
        let blocks = &self.config.blocks;
        let rows = self.config.prefix + self.config.grid * self.config.grid;
        let widest = (3 * blocks.dim).max(blocks.hidden).max(blocks.heads * rows);
        device::batch(&self.device, rows * widest)
    }
}

impl TensorVit {
    /// Hands images `[B, 3, S, S]` to the device.
    fn begin(&self, images: &[f32], count: usize) -> Result<Pending, BackboneError> {
        self.info.check_images(images, count)?;
        let size = self.info.preprocess.size as usize;
        let images = TensorData::new(images.to_vec(), [count, 3, size, size]);
        let all = forward_in(
            &self.config,
            &self.weights,
            self.half,
            Tensor::from_data(images, &self.device),
        );
        let [_, rows, width] = all.dims();
        let prefix = self.config.prefix;
        let mut tokens = all.clone().narrow(1, prefix, rows - prefix);
        let mut global = match prefix {
            0 => tokens.clone().mean_dim(1),
            _ => all.clone().narrow(1, 0, 1),
        };
        let net = Net {
            config: &self.config.blocks,
            weights: &self.weights,
            half: self.half,
        };
        let parts = self.head.iter().enumerate().map(|(index, input)| {
            let read = match *input {
                HeadInput::Token(place) => all.clone().narrow(1, place, 1),
                HeadInput::Mean => tokens.clone().mean_dim(1),
            };
            net.linear(&format!("head.{index}"), read)
        });
        let scores = parts.reduce(|sum, part| sum + part);
        if self.weights.has("pool.probe") {
            global = net.pool(tokens.clone());
            if self.config.project_tokens {
                tokens = net.pool_end(net.pool_part(2, tokens));
            }
        }
        if self.weights.has("projection.weight") {
            global = net.linear("projection", global);
            if self.config.project_tokens {
                tokens = net.linear("projection", tokens);
            }
        }
        debug_assert!(self.info.dim == width || self.config.project_tokens);
        Ok(pending(tokens, scores.unwrap_or(global)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use epsilon_vision::backbone::{BUILT_IN, Tokens, load_with};

    /// The framework's form and the CPU engine agree: on the built-in weights, and on every way to a global vector.
    #[test]
    fn the_two_forms_agree() {
        let folder = tempfile::tempdir().unwrap();
        let built_in = folder.path().join("vit.safetensors");
        std::fs::write(&built_in, BUILT_IN).unwrap();
        let fixtures =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-vision/tests/fixtures");
        let classes = Options {
            global: Global::Classes,
            ..Options::default()
        };
        let projected = Options {
            tokens: Tokens::Projected,
            ..Options::default()
        };
        for (path, options) in [
            (built_in, Options::default()),
            (
                fixtures.join("backbones/timm_distilled.safetensors"),
                classes.clone(),
            ),
            (fixtures.join("backbones/dinov2_classifier"), classes),
            (fixtures.join("backbones/clip"), projected.clone()),
            (fixtures.join("siglip/siglip"), Options::default()),
            (fixtures.join("siglip/siglip2"), projected),
        ] {
            let Network::Vit(weights) = backbone::read(&path, &options).unwrap() else {
                panic!("{}: not a Vision Transformer", path.display());
            };
            let engine = load_with(&path, &options).unwrap();
            let (count, length) = (2, engine.info().preprocess.len());
            let images: Vec<f32> = (0..count * length)
                .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
                .collect();
            let (mut ours, mut theirs) = (Features::default(), Features::default());
            TensorVit::new(&weights, &Device::flex(), None)
                .forward(&images, count, &mut ours)
                .unwrap();
            engine.forward(&images, count, &mut theirs).unwrap();
            for (a, b) in [
                (&ours.tokens, &theirs.tokens),
                (&ours.global, &theirs.global),
            ] {
                assert_eq!(a.len(), b.len());
                let worst = a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).abs())
                    .max_by(f32::total_cmp)
                    .unwrap_or_default();
                assert!(worst < 1e-4, "{}: {worst} apart", path.display());
            }
        }
    }
}
