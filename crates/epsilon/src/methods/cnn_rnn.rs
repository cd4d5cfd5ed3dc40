//! CNN-RNN: a recurrent network names an image's labels one after the other, the most frequent first.
//!
//! Source: "CNN-RNN: A Unified Framework for Multi-label Image Classification", CVPR 2016. With `u_k` the embedding of label k
//! and `o(t)` the output of an LSTM that has read the embeddings of the labels before t (nothing but zeros at the start):
//! `x_t = relu(o(t) U_o + g U_I)`, and the next label is k with probability `softmax_k(u_k . x_t)`; one more symbol ends the list.
//! Training: cross-entropy along an image's positive labels in order of their frequency and the end, the mean over these
//! steps. Scoring: a beam of the most probable lists.
//!
//! The paper does not say how a label's score comes from lists: here it is the greatest probability of a list of the beam with
//! the label as its last, over all steps. A label that no list ends with cannot occur: every list of the beam is tried with
//! every label that it does not hold. Not confirmed, and settings: the widths, the beam and the longest list.

use std::collections::BTreeMap;

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::input::{Input, columns, numbers};
use super::{GradientMethod, Loss, Method, MethodError, TrainedLabels, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::fused::lstm;
use crate::parameters::{self, Spec, Start, Weights};

/// The most lists of a beam, and labels of a list: what is looked at in a step grows with the one, a training's memory with the other.
const MOST: usize = 1000;

/// CNN-RNN's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CnnRnn {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Width of the labels' embeddings.
    pub embedding: usize,
    /// Width of the LSTM.
    pub hidden: usize,
    /// Lists that are followed at once when an image is scored.
    pub beam: usize,
    /// The most labels of a list, in training and when an image is scored.
    pub longest: usize,
}

impl Default for CnnRnn {
    fn default() -> Self {
        Self {
            input: Input::Global,
            embedding: 64,
            hidden: 512,
            beam: 4,
            longest: 8,
        }
    }
}

/// What the LSTM carries from step to step, `[rows, hidden]`.
#[derive(Clone)]
struct Memory {
    output: Tensor<2>,
    cell: Tensor<2>,
}

/// The weights, once.
struct Network {
    /// Embeddings `[C + 1, E]`, the end's last.
    labels: Tensor<2>,
    gates: (Tensor<2>, Tensor<1>),
    output: Tensor<2>,
    bias: Tensor<1>,
    /// `g U_I`, `[B, E]`.
    image: Tensor<2>,
}

impl Network {
    fn new(weights: &Weights, input: Input, batch: &Batch) -> Self {
        let (image, bias) = weights.linear("image");
        Self {
            labels: weights.get("labels.weight"),
            gates: weights.linear("lstm"),
            output: weights.get("output.weight"),
            bias,
            image: input.of(batch).matmul(image),
        }
    }

    fn device(&self) -> Device {
        self.labels.device().inner()
    }

    /// The embeddings of some symbols, `[rows, E]`.
    fn embed(&self, symbols: &[usize]) -> Tensor<2> {
        self.labels
            .clone()
            .select(0, numbers(symbols, &self.device()))
    }

    fn start(&self, rows: usize, hidden: usize) -> Memory {
        let zeros = Tensor::zeros([rows, hidden], &self.device());
        Memory {
            output: zeros.clone(),
            cell: zeros,
        }
    }

    /// One step of the LSTM on the embeddings `[rows, E]` of the last symbols.
    fn read(&self, memory: Memory, embedded: Tensor<2>) -> Memory {
        let (weight, bias) = self.gates.clone();
        let [output, cell] = lstm::step(embedded, [memory.output, memory.cell], weight, bias);
        Memory { output, cell }
    }

    /// Log-probabilities `[rows, C + 1]` of the symbol after outputs `[rows, H]`; `images` says which image each row belongs to.
    fn next(&self, outputs: Tensor<2>, images: &[usize]) -> Tensor<2> {
        let image = self
            .image
            .clone()
            .select(0, numbers(images, &self.device()));
        let met = outputs.matmul(self.output.clone()) + image;
        let x = relu(met + self.bias.clone().unsqueeze());
        log_softmax(x.matmul(self.labels.clone().transpose()), 1)
    }
}

/// A list of labels that an image may have.
#[derive(Clone)]
struct List {
    symbols: Vec<usize>,
    log_probability: f32,
    /// Row of the memory of the list without its last label.
    parent: usize,
}

impl CnnRnn {
    /// The positive labels of each image by falling frequency, at most the longest list, and the end.
    fn sequences(&self, weights: &Weights, batch: &Batch) -> Vec<Vec<usize>> {
        let ranks = device::host(&weights.get_flat("labels.rank").inner());
        let end = ranks.len();
        let sequence = |row: &[i8]| {
            let mut labels: Vec<usize> = (0..row.len()).filter(|&c| row[c] > 0).collect();
            labels.sort_by(|&a, &b| ranks[a].total_cmp(&ranks[b]));
            labels.truncate(self.longest);
            labels.push(end);
            labels
        };
        batch.targets.rows().map(sequence).collect()
    }

    /// `ln p` of the greatest list of the beam that ends with each label, for one image: `[C]`.
    fn best_paths(&self, network: &Network, image: usize, labels: usize) -> Vec<f32> {
        let mut scores = vec![f32::NEG_INFINITY; labels];
        let first = network.labels.clone().narrow(0, 0, 1).zeros_like();
        let mut memory = network.read(network.start(1, network.output.dims()[0]), first);
        let mut beam = vec![List {
            symbols: Vec::new(),
            log_probability: 0.0,
            parent: 0,
        }];
        for step in 1..=self.longest.min(labels) {
            let next = device::host(&network.next(memory.output.clone(), &vec![image; beam.len()]));
            let mut longer = Vec::new();
            for (row, (list, next)) in beam.iter().zip(next.chunks_exact(labels + 1)).enumerate() {
                for label in (0..labels).filter(|label| !list.symbols.contains(label)) {
                    let log_probability = list.log_probability + next[label];
                    scores[label] = scores[label].max(log_probability);
                    longer.push((log_probability, row, label));
                }
            }
            if step == self.longest {
                break;
            }
            // Equal ones in the order they were found, so that nothing hangs on the sort.
            longer.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            longer.truncate(self.beam);
            beam = longer
                .into_iter()
                .map(|(log_probability, parent, label)| List {
                    symbols: [&beam[parent].symbols[..], &[label]].concat(),
                    log_probability,
                    parent,
                })
                .collect();
            let parents: Vec<usize> = beam.iter().map(|list| list.parent).collect();
            let last: Vec<usize> = beam
                .iter()
                .filter_map(|l| l.symbols.last().copied())
                .collect();
            let parents = numbers(&parents, &network.device());
            memory = Memory {
                output: memory.output.select(0, parents.clone()),
                cell: memory.cell.select(0, parents),
            };
            memory = network.read(memory, network.embed(&last));
        }
        scores
    }
}

impl Method for CnnRnn {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Seen
    }

    fn reads_label_vectors(&self) -> bool {
        false
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let counts = [
            (self.embedding, "embedding"),
            (self.hidden, "hidden"),
            (self.beam, "beam"),
            (self.longest, "longest"),
        ];
        if let Some((_, name)) = counts.iter().find(|(count, _)| *count == 0) {
            return Err(MethodError::Setting(format!("{name} = 0: give at least 1")));
        }
        let lists = [(self.beam, "beam"), (self.longest, "longest")];
        if let Some((count, name)) = lists.iter().find(|(count, _)| *count > MOST) {
            let what = format!("{name} = {count}: give at most {MOST}");
            return Err(MethodError::Setting(what));
        }
        let symbols = dims.labels + 1;
        let start = Start::Normal(1.0 / (self.embedding as f32).sqrt());
        let mut specs = vec![Spec::new(
            "labels.weight",
            &[symbols, self.embedding],
            start,
        )];
        let read = self.embedding + self.hidden;
        specs.extend(parameters::linear("lstm", read, 4 * self.hidden));
        specs.push(super::layers::product_spec(
            "output",
            self.hidden,
            self.embedding,
        ));
        specs.extend(parameters::linear(
            "image",
            self.input.width(dims),
            self.embedding,
        ));
        specs.push(Spec::new("labels.rank", &[dims.labels], Start::Constant(0.0)).kept());
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let network = Network::new(weights, self.input, batch);
        let labels = network.labels.dims()[0] - 1;
        let [images, _] = network.image.dims();
        let scores: Vec<f32> = (0..images)
            .flat_map(|image| self.best_paths(&network, image, labels))
            .collect();
        let scores = TensorData::new(scores, [images, labels]);
        columns(Tensor::from_data(scores, &network.device()), batch)
    }
}

impl GradientMethod for CnnRnn {
    /// The place of each label by falling frequency among the training images.
    fn first_values(&self, _: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        let mut order: Vec<usize> = (0..labels.positives.len()).collect();
        order.sort_by_key(|&label| std::cmp::Reverse(labels.positives[label]));
        let mut ranks = vec![0.0; order.len()];
        for (rank, label) in order.into_iter().enumerate() {
            ranks[label] = rank as f32;
        }
        [("labels.rank".to_string(), ranks)].into()
    }

    fn ranks_its_scores(&self) -> bool {
        false
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let network = Network::new(weights, self.input, batch);
        let sequences = self.sequences(weights, batch);
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let targets = sequences.concat();
        let symbols = network.labels.dims()[0];
        // A step reads the symbol before its target; the first one, which would be an end, reads zeros.
        let mut before = vec![symbols - 1; 1];
        before.extend_from_slice(&targets[..targets.len() - 1]);
        let starts: Vec<f32> = before
            .iter()
            .map(|&symbol| if symbol == symbols - 1 { 0.0 } else { 1.0 })
            .collect();
        let starts = TensorData::new(starts, [targets.len(), 1]);
        let starts = Tensor::<2>::from_data(starts, &network.device());
        let (weight, bias) = network.gates.clone();
        let read = network.embed(&before) * starts;
        let outputs = lstm::lstm(read, weight, bias, &lengths);
        let of_images = lengths.iter().enumerate();
        let of_images: Vec<usize> = of_images
            .flat_map(|(image, &length)| std::iter::repeat_n(image, length))
            .collect();
        let next = network.next(outputs, &of_images);
        // The share of each step in its image's mean, at the symbol that should come.
        let mut share = vec![0.0; targets.len() * symbols];
        for (row, (&symbol, &image)) in targets.iter().zip(&of_images).enumerate() {
            share[row * symbols + symbol] = 1.0 / lengths[image] as f32;
        }
        let share = TensorData::new(share, [targets.len(), symbols]);
        let total = -(next * Tensor::from_data(share, &network.device())).sum();
        let mean = total / images as f64;
        let value: f32 = mean.clone().inner().into_scalar();
        Loss {
            ranking: f64::from(value),
            regularisation: 0.0,
            total: mean,
            kept: Vec::new(),
        }
    }

    fn live_values(&self, dims: &Dims) -> usize {
        (self.longest + 1) * (10 * self.hidden + 4 * (dims.labels + 1) + 3 * self.embedding)
    }
}
