//! A Vision Transformer or a relative as an ONNX graph, from normalised images `[B, 3, S, S]` to tokens `[B, N, D]` and global
//! vectors `[B, G]`; with ONNX Runtime's own attention, which standard operators only spell out.

use prost::Message;

use super::proto::{Attribute, Graph, Model, Node, Opset, Tensor, ValueInfo};
use super::{GLOBAL, IMAGES, TOKENS};
use crate::backbone::{
    Activation, BlockConfig, Global, HeadInput, Linear, NormWeights, PoolWeights, VitWeights,
};

/// The version of the standard operators: the first with GELU.
const OPSET: i64 = 20;
/// The version of the format that came with it.
const IR: i64 = 9;
/// The domain of ONNX Runtime's own operators.
const OWN: &str = "com.microsoft";

/// The network as an ONNX file.
pub(super) fn model(weights: &VitWeights) -> Vec<u8> {
    let mut graph = Building::default();
    let (tokens, global) = graph.network(weights);
    graph.end(&tokens, TOKENS);
    graph.end(&global, GLOBAL);
    let (info, size) = (weights.info(), weights.config.preprocess.size as usize);
    let opset = |domain: &str, version| Opset {
        domain: domain.into(),
        version,
    };
    let model = Model {
        ir_version: IR,
        producer_name: "epsilon".into(),
        graph: Some(Graph {
            node: graph.nodes,
            name: weights.name.clone(),
            initializer: graph.values,
            input: vec![ValueInfo::of_images(IMAGES, &[3, size, size])],
            output: vec![
                ValueInfo::of_images(TOKENS, &[info.tokens, info.dim]),
                ValueInfo::of_images(GLOBAL, &[info.global_dim()]),
            ],
        }),
        opset_import: vec![opset("", OPSET), opset(OWN, 1)],
    };
    model.encode_to_vec()
}

/// Nodes and constants so far. A value is known by its name.
#[derive(Default)]
struct Building {
    nodes: Vec<Node>,
    values: Vec<Tensor>,
}

impl Building {
    /// The tokens and the global vectors.
    fn network(&mut self, weights: &VitWeights) -> (String, String) {
        let (config, blocks) = (&weights.config, &weights.config.blocks);
        let (prefix, patches) = (config.prefix, config.grid * config.grid);
        let mut x = self.embedded(weights);
        if let Some(norm) = &weights.norm_pre {
            x = self.norm(&x, norm, blocks);
        }
        for block in &weights.blocks {
            let read = self.norm(&x, &block.norm1, blocks);
            let qkv = self.linear(&read, &block.qkv);
            let [query, keys, values] = self.split(&qkv, blocks.dim);
            let mixed = self.attention([&query, &keys, &values], blocks);
            let mixed = self.linear(&mixed, &block.proj);
            x = self.op("Add", &[&x, &mixed], vec![]);
            let read = self.norm(&x, &block.norm2, blocks);
            let hidden = self.linear(&read, &block.fc1);
            let hidden = self.activation(&hidden, blocks.activation);
            let hidden = self.linear(&hidden, &block.fc2);
            x = self.op("Add", &[&x, &hidden], vec![]);
        }
        let all = self.norm(&x, &weights.norm, blocks);
        let mut tokens = self.rows(&all, prefix, prefix + patches);
        let mut global = match prefix {
            0 => self.mean(&tokens),
            _ => self.row(&all, 0),
        };
        let scores = (config.global == Global::Classes)
            .then(|| self.scores(weights, &all, &tokens))
            .flatten();
        if let Some(pool) = &weights.pool {
            global = self.pooled(&tokens, pool, blocks);
            if config.project_tokens {
                let [_, _, values] = self.parts(&pool.qkv, blocks.dim);
                let values = self.linear(&tokens, &values);
                tokens = self.pool_end(&values, pool, blocks);
            }
        }
        if let Some(projection) = &weights.projection {
            global = self.linear(&global, projection);
            if config.project_tokens {
                tokens = self.linear(&tokens, projection);
            }
        }
        (tokens, scores.unwrap_or(global))
    }

    /// Patches, behind the tokens before them, with their positions, `[B, P + N, D]`.
    fn embedded(&mut self, weights: &VitWeights) -> String {
        let config = &weights.config;
        let (dim, patch, prefix) = (config.blocks.dim, config.patch, config.prefix);
        let map = &weights.patch_embed;
        let kernel = self.floats(&[dim, 3, patch, patch], map.weight.iter().copied());
        let bias = self.floats(&[dim], map.bias.iter().copied());
        let sides = [patch as i64; 2];
        let strides = vec![
            Attribute::ints("kernel_shape", &sides),
            Attribute::ints("strides", &sides),
        ];
        let map = self.op("Conv", &[IMAGES, &kernel, &bias], strides);
        let shape = self.integers(&[0, dim as i64, -1]);
        let rows = self.op("Reshape", &[&map, &shape], vec![]);
        let mut x = self.op(
            "Transpose",
            &[&rows],
            vec![Attribute::ints("perm", &[0, 2, 1])],
        );
        if prefix > 0 {
            let tokens = weights.prefix_tokens.iter().copied();
            let tokens = self.floats(&[1, prefix, dim], tokens);
            let tokens = self.for_every_image(&tokens, prefix, dim);
            x = self.op("Concat", &[&tokens, &x], vec![Attribute::int("axis", 1)]);
        }
        let rows = prefix + config.grid * config.grid;
        let places = self.floats(&[1, rows, dim], weights.pos_embed.iter().copied());
        self.op("Add", &[&x, &places], vec![])
    }

    /// A constant `[1, rows, dim]` as `[B, rows, dim]`.
    fn for_every_image(&mut self, value: &str, rows: usize, dim: usize) -> String {
        let first = vec![Attribute::int("start", 0), Attribute::int("end", 1)];
        let count = self.op("Shape", &[IMAGES], first);
        let rest = self.integers(&[rows as i64, dim as i64]);
        let shape = self.op("Concat", &[&count, &rest], vec![Attribute::int("axis", 0)]);
        self.op("Expand", &[value, &shape], vec![])
    }

    /// What the classifier in the file makes of the tokens, `[B, classes]`.
    fn scores(&mut self, weights: &VitWeights, all: &str, tokens: &str) -> Option<String> {
        let parts = weights.head.iter().map(|part| {
            let read = match part.input {
                HeadInput::Token(place) => self.row(all, place),
                HeadInput::Mean => self.mean(tokens),
            };
            self.linear(&read, &part.map)
        });
        let parts: Vec<String> = parts.collect();
        parts
            .into_iter()
            .reduce(|sum, part| self.op("Add", &[&sum, &part], vec![]))
    }

    /// SigLIP's global vector of tokens `[B, N, D]`, `[B, D]`.
    fn pooled(&mut self, tokens: &str, pool: &PoolWeights, blocks: &BlockConfig) -> String {
        let [query, keys, values] = self.parts(&pool.qkv, blocks.dim);
        let probe = self.floats(&[1, 1, blocks.dim], pool.probe.iter().copied());
        let query = self.linear(&probe, &query);
        let query = self.for_every_image(&query, 1, blocks.dim);
        let keys = self.linear(tokens, &keys);
        let values = self.linear(tokens, &values);
        let mixed = self.attention([&query, &keys, &values], blocks);
        let end = self.pool_end(&mixed, pool, blocks);
        self.row(&end, 0)
    }

    fn pool_end(&mut self, mixed: &str, pool: &PoolWeights, blocks: &BlockConfig) -> String {
        let x = self.linear(mixed, &pool.proj);
        let read = self.norm(&x, &pool.norm, blocks);
        let hidden = self.linear(&read, &pool.fc1);
        let hidden = self.activation(&hidden, blocks.activation);
        let hidden = self.linear(&hidden, &pool.fc2);
        self.op("Add", &[&x, &hidden], vec![])
    }

    /// The three maps that stand one after the other in one.
    fn parts(&self, qkv: &Linear, dim: usize) -> [Linear; 3] {
        [0, 1, 2].map(|part| Linear {
            weight: qkv.weight[part * dim * dim..][..dim * dim].to_vec().into(),
            bias: qkv.bias[part * dim..][..dim].to_vec(),
        })
    }

    /// A value of the name that it is known by outside.
    fn end(&mut self, value: &str, name: &str) {
        self.nodes.push(Node {
            input: vec![value.into()],
            output: vec![name.into()],
            op_type: "Identity".into(),
            ..Node::default()
        });
    }

    fn op(&mut self, kind: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let [output] = self.ops(kind, "", inputs, attributes);
        output
    }

    fn ops<const N: usize>(
        &mut self,
        kind: &str,
        domain: &str,
        inputs: &[&str],
        attribute: Vec<Attribute>,
    ) -> [String; N] {
        let number = self.nodes.len();
        let outputs: [String; N] = std::array::from_fn(|at| format!("n{number}.{at}"));
        self.nodes.push(Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.to_vec(),
            op_type: kind.into(),
            attribute,
            domain: domain.into(),
        });
        outputs
    }

    fn floats(&mut self, shape: &[usize], values: impl Iterator<Item = f32>) -> String {
        let name = format!("c{}", self.values.len());
        self.values.push(Tensor::floats(&name, shape, values));
        name
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("c{}", self.values.len());
        self.values.push(Tensor::integers(&name, values));
        name
    }

    fn linear(&mut self, x: &str, map: &Linear) -> String {
        let (weight, outputs) = (&map.weight, map.bias.len());
        let inputs = weight.len() / outputs.max(1);
        let transposed =
            (0..inputs).flat_map(|row| (0..outputs).map(move |out| weight[out * inputs + row]));
        let weight = self.floats(&[inputs, outputs], transposed);
        let bias = self.floats(&[outputs], map.bias.iter().copied());
        let product = self.op("MatMul", &[x, &weight], vec![]);
        self.op("Add", &[&product, &bias], vec![])
    }

    fn norm(&mut self, x: &str, norm: &NormWeights, blocks: &BlockConfig) -> String {
        let scale = self.floats(&[blocks.dim], norm.weight.iter().copied());
        let shift = self.floats(&[blocks.dim], norm.bias.iter().copied());
        let settings = vec![
            Attribute::int("axis", -1),
            Attribute::float("epsilon", blocks.layer_norm_eps),
        ];
        self.op("LayerNormalization", &[x, &scale, &shift], settings)
    }

    fn activation(&mut self, x: &str, activation: Activation) -> String {
        let gelu = |approximate| vec![Attribute::text("approximate", approximate)];
        match activation {
            Activation::Gelu => self.op("Gelu", &[x], gelu("none")),
            Activation::TanhGelu => self.op("Gelu", &[x], gelu("tanh")),
            Activation::QuickGelu => {
                let factor = self.floats(&[], std::iter::once(1.702));
                let scaled = self.op("Mul", &[x, &factor], vec![]);
                let gate = self.op("Sigmoid", &[&scaled], vec![]);
                self.op("Mul", &[x, &gate], vec![])
            }
        }
    }

    fn attention(&mut self, [query, keys, values]: [&str; 3], blocks: &BlockConfig) -> String {
        let heads = vec![Attribute::int("num_heads", blocks.heads as i64)];
        let [mixed] = self.ops("MultiHeadAttention", OWN, &[query, keys, values], heads);
        mixed
    }

    /// The thirds of the last axis.
    fn split(&mut self, qkv: &str, dim: usize) -> [String; 3] {
        let sizes = self.integers(&[dim as i64; 3]);
        self.ops(
            "Split",
            "",
            &[qkv, &sizes],
            vec![Attribute::int("axis", -1)],
        )
    }

    /// Some tokens, `[B, end - start, D]`.
    fn rows(&mut self, x: &str, start: usize, end: usize) -> String {
        let [start, end, axis] = [start as i64, end as i64, 1].map(|value| self.integers(&[value]));
        self.op("Slice", &[x, &start, &end, &axis], vec![])
    }

    /// One token, `[B, D]`.
    fn row(&mut self, x: &str, place: usize) -> String {
        let row = self.rows(x, place, place + 1);
        let axis = self.integers(&[1]);
        self.op("Squeeze", &[&row, &axis], vec![])
    }

    /// The mean of tokens, `[B, D]`.
    fn mean(&mut self, tokens: &str) -> String {
        let axis = self.integers(&[1]);
        self.op(
            "ReduceMean",
            &[tokens, &axis],
            vec![Attribute::int("keepdims", 0)],
        )
    }
}
