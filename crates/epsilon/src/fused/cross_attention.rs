//! Cross attention of prompts to the frozen tokens of their images, as one operation with a hand-written backward pass, on
//! the CPU device. The key and value maps are folded into the few queries.
//!
//! With O the prompts, X the tokens (or `X g + b`, LayerNorm's scale and shift over standardised ones), for each head:
//! `q = s (O W_q + b_q)`, `f = q W_k'`, `A = softmax(f [O; X]')`, `c = A [O; X]`, `out = c W_v + b_v`. The prompts
//! attend to themselves too in an encoder block, and not in eq. 3. The key bias adds the same to every logit of a query, so
//! the softmax does not see it. Images are worked on one a thread; the result does not depend on their number.

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::operation::{self, Input, Operation, run};
use crate::device;
use epsilon_kernels::matrix::{Into, Matrix, product, product_strided};
use epsilon_kernels::rows::{
    affine_rows, affine_rows_backward, dot_rows, scale_rows, softmax_rows, softmax_rows_backward,
    standardise_rows,
};
use epsilon_kernels::vector::{self, add};

/// An encoder block's attention: prompts attend to the prompts and the tokens, all of them scaled and shifted.
pub(crate) struct Encoder {
    /// Queries, keys and values side by side, `[D, 3 D]`.
    pub weight: Tensor<2>,
    /// `[3 D]`.
    pub bias: Tensor<1>,
    /// LayerNorm's scale of the tokens, `[D]`.
    pub gamma: Tensor<1>,
    /// LayerNorm's shift of the tokens, `[D]`.
    pub beta: Tensor<1>,
}

/// The attention of eq. 3: to the tokens alone, as they are.
pub(crate) struct Refinement {
    /// `[D, D]` and `[D]`.
    pub query: (Tensor<2>, Tensor<1>),
    /// `[D, D]`; its bias cancels in the softmax.
    pub key: Tensor<2>,
    /// `[D, D]` and `[D]`.
    pub value: (Tensor<2>, Tensor<1>),
}

/// Whether the operation runs where these tokens live, and they need no gradient.
pub(crate) fn runs_on(tokens: &Tensor<3>) -> bool {
    operation::runs_on(tokens) && !tokens.is_tracked()
}

impl Encoder {
    /// The attention of normalised prompts `[B or 1, M, D]` to standardised tokens `[B, N, D]` with this many heads:
    /// `[B, M, D]`. Logits are scaled by `scale`.
    pub(crate) fn attend(
        self,
        prompts: Tensor<3>,
        tokens: &Tensor<3>,
        heads: usize,
        scale: f64,
    ) -> Tensor<3> {
        let own = prompts.dims()[1];
        let sizes = Sizes::new(&prompts, tokens, heads, own, scale);
        let inputs = [
            prompts.flatten(0, 2),
            self.weight.flatten(0, 1),
            self.bias,
            self.gamma,
            self.beta,
        ];
        attend_tokens(sizes, tokens, inputs).0
    }
}

impl Refinement {
    /// The attention of prompts `[B or 1, M, D]` to tokens `[B, N, D]`: `[B, M, D]`, and its weights `[B, M, N]`, which have
    /// no gradient. Logits are scaled by `scale`.
    pub(crate) fn attend(
        self,
        prompts: Tensor<3>,
        tokens: &Tensor<3>,
        scale: f64,
    ) -> (Tensor<3>, Tensor<3>) {
        let sizes = Sizes::new(&prompts, tokens, 1, 0, scale);
        let inputs = [
            prompts.flatten(0, 2),
            self.query.0.flatten(0, 1),
            self.query.1,
            self.key.flatten(0, 1),
            self.value.0.flatten(0, 1),
            self.value.1,
        ];
        attend_tokens(sizes, tokens, inputs)
    }
}

/// The result and the attention `[B, M heads, J]`; prompts and weights are in the order in which [`Views`] takes them.
fn attend_tokens<const P: usize>(
    sizes: Sizes,
    tokens: &Tensor<3>,
    inputs: [Tensor<1>; P],
) -> (Tensor<3>, Tensor<3>) {
    let tokens = device::flex(tokens.clone().inner());
    let shape = [sizes.images, sizes.groups, sizes.width];
    let operation = CrossAttention { sizes, tokens };
    let (out, kept) = run(operation, inputs.map(Input::from), shape);
    let shape = [sizes.images, sizes.rows(), sizes.columns()];
    let attention = device::flex_from(kept.attention.clone(), &shape);
    (out, Tensor::from_primitive::<Flex>(attention))
}

/// The operation with its frozen tokens.
#[derive(Debug, Clone)]
struct CrossAttention {
    sizes: Sizes,
    tokens: FlexTensor,
}

impl<const P: usize> Operation<P> for CrossAttention {
    type Kept = Kept;

    fn forward(&self, inputs: [&[f32]; P], _: bool) -> (Vec<f32>, Kept) {
        let views = Views::new(&self.sizes, &inputs);
        run_forward(&self.sizes, device::values(&self.tokens), &views)
    }

    fn backward(
        &self,
        inputs: [&[f32]; P],
        kept: &Kept,
        upstream: &[f32],
        _: [bool; P],
    ) -> [Vec<f32>; P] {
        let views = Views::new(&self.sizes, &inputs);
        let tokens = device::values(&self.tokens);
        let gradients = run_backward(&self.sizes, tokens, &views, kept, upstream);
        gradients.try_into().expect("a gradient an input")
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    images: usize,
    /// Of the prompts: 1 or one an image.
    copies: usize,
    groups: usize,
    heads: usize,
    /// Tokens of an image.
    count: usize,
    width: usize,
    /// Prompts that prompts attend to.
    own: usize,
    scale: f32,
}

impl Sizes {
    fn new(prompts: &Tensor<3>, tokens: &Tensor<3>, heads: usize, own: usize, scale: f64) -> Self {
        let [images, count, width] = tokens.dims();
        let [copies, groups, _] = prompts.dims();
        Self {
            images,
            copies,
            groups,
            heads,
            count,
            width,
            own,
            scale: scale as f32,
        }
    }

    /// Queries of an image: a row a group and head, the heads of a group side by side.
    fn rows(&self) -> usize {
        self.groups * self.heads
    }

    /// Keys of a query.
    fn columns(&self) -> usize {
        self.own + self.count
    }

    /// Width of a head.
    fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Row by row of all images' (or copies') queries of one head, `[count M, D]`.
    fn of_head<'a>(&self, rows: &'a [f32], count: usize, head: usize) -> Matrix<'a> {
        let width = self.width;
        Matrix::strided(
            &rows[head * width..],
            count * self.groups,
            width,
            self.heads * width,
        )
    }

    /// The columns of one head of `[count M, D]`.
    fn head_columns<'a>(&self, values: &'a [f32], count: usize, head: usize) -> Matrix<'a> {
        let first = head * self.head();
        Matrix::strided(
            &values[first..],
            count * self.groups,
            self.head(),
            self.width,
        )
    }
}

/// A map `[D, D]` whose rows start `stride` values apart.
#[derive(Clone, Copy)]
struct Map<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> Map<'a> {
    /// Some of its columns, `[D, count]`.
    fn columns(self, sizes: &Sizes, first: usize, count: usize) -> Matrix<'a> {
        Matrix::strided(&self.values[first..], sizes.width, count, self.stride)
    }

    /// The columns of one head, `[D, d_h]`.
    fn head(self, sizes: &Sizes, head: usize) -> Matrix<'a> {
        self.columns(sizes, head * sizes.head(), sizes.head())
    }
}

/// The inputs by their names.
struct Views<'a> {
    prompts: &'a [f32],
    query: Map<'a>,
    query_bias: &'a [f32],
    key: Map<'a>,
    value: Map<'a>,
    value_bias: &'a [f32],
    /// LayerNorm's scale and shift.
    affine: Option<[&'a [f32]; 2]>,
}

impl<'a> Views<'a> {
    fn new(sizes: &Sizes, inputs: &[&'a [f32]]) -> Self {
        let width = sizes.width;
        match *inputs {
            [prompts, weight, bias, gamma, beta] => {
                let map = |index: usize| Map {
                    values: &weight[index * width..],
                    stride: 3 * width,
                };
                Self {
                    prompts,
                    query: map(0),
                    query_bias: &bias[..width],
                    key: map(1),
                    value: map(2),
                    value_bias: &bias[2 * width..],
                    affine: Some([gamma, beta]),
                }
            }
            [prompts, query, query_bias, key, value, value_bias] => {
                let map = |values| Map {
                    values,
                    stride: width,
                };
                Self {
                    prompts,
                    query: map(query),
                    query_bias,
                    key: map(key),
                    value: map(value),
                    value_bias,
                    affine: None,
                }
            }
            _ => unreachable!("an encoder has five inputs, a refinement six"),
        }
    }
}

/// What the backward pass needs.
#[derive(Debug)]
struct Kept {
    /// `q [C M, D]`, scaled.
    queries: Vec<f32>,
    /// `f [C, M, heads, D]`.
    folded: Vec<f32>,
    /// `A [B, M heads, J]`.
    attention: Vec<f32>,
    /// The tokens alone weighted with A, `[B, M, heads, D]`; empty where that is the context.
    plain: Vec<f32>,
    /// `c [B, M, heads, D]`.
    context: Vec<f32>,
}

/// `out [B, M, D]`, and what the backward pass needs.
fn run_forward(sizes: &Sizes, tokens: &[f32], views: &Views) -> (Vec<f32>, Kept) {
    let (queries, folded) = folded_queries(sizes, views);
    let kept = attend_images(sizes, tokens, views, queries, folded);
    let out = mapped_values(sizes, views, &kept.context);
    (out, kept)
}

/// `q [C M, D]`, scaled, and `f [C, M, heads, D]`.
fn folded_queries(sizes: &Sizes, views: &Views) -> (Vec<f32>, Vec<f32>) {
    let Sizes {
        copies,
        groups,
        heads,
        width,
        ..
    } = *sizes;
    let threads = rayon::current_num_threads();
    let mut queries = vec![0.0; copies * groups * width];
    let prompts = Matrix::new(views.prompts, copies * groups, width);
    let map = views.query.columns(sizes, 0, width);
    product(&mut queries, Into::Replace, prompts, map, threads);
    vector::add_row(&mut queries, views.query_bias);
    queries.iter_mut().for_each(|q| *q *= sizes.scale);

    let mut folded = vec![0.0; copies * sizes.rows() * width];
    for head in 0..heads {
        let queries = sizes.head_columns(&queries, copies, head);
        let map = views.key.head(sizes, head).transposed();
        let out = &mut folded[head * width..];
        product_strided(out, heads * width, Into::Replace, queries, map, threads);
    }
    (queries, folded)
}

/// The attention and the context of every image, one image a thread.
fn attend_images(
    sizes: &Sizes,
    tokens: &[f32],
    views: &Views,
    queries: Vec<f32>,
    folded: Vec<f32>,
) -> Kept {
    let Sizes {
        images,
        copies,
        count,
        width,
        ..
    } = *sizes;
    let (rows, columns) = (sizes.rows(), sizes.columns());
    let mut kept = Kept {
        queries,
        folded,
        attention: vec![0.0; images * rows * columns],
        plain: vec![
            0.0;
            if views.affine.is_some() {
                images * rows * width
            } else {
                0
            }
        ],
        context: vec![0.0; images * rows * width],
    };
    let Kept {
        folded,
        attention,
        plain,
        context,
        ..
    } = &mut kept;
    let per_image = attention
        .par_chunks_mut(rows * columns)
        .zip(context.par_chunks_mut(rows * width))
        .zip(tokens.par_chunks(count * width))
        .enumerate()
        .with_max_len(1);
    match views.affine {
        None => per_image.for_each(|(image, ((attention, context), tokens))| {
            let folded = of_copy(folded, copies, image);
            attend(sizes, folded, tokens, attention);
            weigh(sizes, attention, tokens, context);
        }),
        Some(affine) => per_image.zip(plain.par_chunks_mut(rows * width)).for_each(
            |((image, ((attention, context), tokens)), plain)| {
                let folded = of_copy(folded, copies, image);
                let prompts = of_copy(views.prompts, copies, image);
                attend_normed(sizes, folded, prompts, tokens, affine, attention);
                weigh(sizes, attention, tokens, plain);
                spread(sizes, attention, plain, affine, prompts, context);
            },
        ),
    }
    kept
}

/// `c W_v + b_v`, `[B, M, D]`.
fn mapped_values(sizes: &Sizes, views: &Views, context: &[f32]) -> Vec<f32> {
    let Sizes {
        images,
        groups,
        heads,
        width,
        ..
    } = *sizes;
    let threads = rayon::current_num_threads();
    let mut out = vec![0.0; images * groups * width];
    for head in 0..heads {
        let context = sizes.of_head(context, images, head);
        let map = views.value.head(sizes, head);
        let out = &mut out[head * sizes.head()..];
        product_strided(out, width, Into::Replace, context, map, threads);
    }
    vector::add_row(&mut out, views.value_bias);
    out
}

/// The part of an image where there is one an image, else the only one.
fn of_copy(values: &[f32], copies: usize, image: usize) -> &[f32] {
    let length = values.len() / copies;
    &values[if copies == 1 { 0 } else { image } * length..][..length]
}

/// `A = softmax(f X')` of one image.
fn attend(sizes: &Sizes, folded: &[f32], tokens: &[f32], attention: &mut [f32]) {
    let Sizes { count, width, .. } = *sizes;
    let folded = Matrix::new(folded, sizes.rows(), width);
    let tokens = Matrix::new(tokens, count, width).transposed();
    product(attention, Into::Replace, folded, tokens, 1);
    softmax_rows(attention, count);
}

/// `A = softmax(f [O; X g + b]')` of one image.
fn attend_normed(
    sizes: &Sizes,
    folded: &[f32],
    prompts: &[f32],
    tokens: &[f32],
    [gamma, beta]: [&[f32]; 2],
    attention: &mut [f32],
) {
    let Sizes {
        own, count, width, ..
    } = *sizes;
    let (rows, columns) = (sizes.rows(), sizes.columns());
    let mut scaled = vec![0.0; rows * width];
    let mut offsets = vec![0.0; rows];
    scale_rows(folded, gamma, &mut scaled);
    dot_rows(folded, beta, &mut offsets);
    let own_rows = Matrix::new(prompts, own, width).transposed();
    let queries = Matrix::new(folded, rows, width);
    product_strided(attention, columns, Into::Replace, queries, own_rows, 1);
    let tokens = Matrix::new(tokens, count, width).transposed();
    let queries = Matrix::new(&scaled, rows, width);
    let out = &mut attention[own..];
    product_strided(out, columns, Into::Replace, queries, tokens, 1);
    for (row, offset) in attention.chunks_exact_mut(columns).zip(offsets) {
        row[own..].iter_mut().for_each(|x| *x += offset);
    }
    softmax_rows(attention, columns);
}

/// The tokens of one image weighted with a row of `weights [M heads, J]` each.
fn weigh(sizes: &Sizes, weights: &[f32], tokens: &[f32], out: &mut [f32]) {
    let Sizes {
        own, count, width, ..
    } = *sizes;
    let weights = Matrix::strided(&weights[own..], sizes.rows(), count, sizes.columns());
    let tokens = Matrix::new(tokens, count, width);
    product(out, Into::Replace, weights, tokens, 1);
}

/// `out = plain g + (sum of the tokens' weights) b + (the prompts weighted)`, by rows.
fn spread(
    sizes: &Sizes,
    weights: &[f32],
    plain: &[f32],
    [gamma, beta]: [&[f32]; 2],
    prompts: &[f32],
    out: &mut [f32],
) {
    let sums = token_sums(sizes, weights);
    affine_rows(plain, gamma, &sums, beta, out);
    let weights = Matrix::strided(weights, sizes.rows(), sizes.own, sizes.columns());
    let prompts = Matrix::new(prompts, sizes.own, sizes.width);
    product(out, Into::Add, weights, prompts, 1);
}

/// The sum of a row's weights of tokens.
fn token_sums(sizes: &Sizes, weights: &[f32]) -> Vec<f32> {
    weights
        .chunks_exact(sizes.columns())
        .map(|row| row[sizes.own..].iter().sum())
        .collect()
}

/// Gradients of the inputs, in their order.
fn run_backward(
    sizes: &Sizes,
    tokens: &[f32],
    views: &Views,
    kept: &Kept,
    upstream: &[f32],
) -> Vec<Vec<f32>> {
    let mut out = WeightGradients::new(sizes);
    let contexts = mapped_values_backward(sizes, views, kept, upstream, &mut out);
    let of_images = attend_images_backward(sizes, tokens, views, kept, &contexts);
    let ImageGradients {
        folded,
        mut prompts,
        affine,
    } = ImageGradients::gather(of_images, sizes.copies);
    prompts.resize(sizes.copies * sizes.groups * sizes.width, 0.0);
    folded_queries_backward(sizes, views, kept, &folded, &mut prompts, &mut out);
    out.finish(prompts, affine)
}

/// The backward pass of [`mapped_values`]: gradients of the value map into `out`, those of the contexts returned.
fn mapped_values_backward(
    sizes: &Sizes,
    views: &Views,
    kept: &Kept,
    upstream: &[f32],
    out: &mut WeightGradients,
) -> Vec<f32> {
    let Sizes {
        images,
        heads,
        width,
        ..
    } = *sizes;
    let threads = rayon::current_num_threads();
    vector::add_column_sums(upstream, out.bias(VALUE));
    let mut contexts = vec![0.0; images * sizes.rows() * width];
    for head in 0..heads {
        let gradient = sizes.head_columns(upstream, images, head);
        let map = views.value.head(sizes, head).transposed();
        let into = &mut contexts[head * width..];
        product_strided(into, heads * width, Into::Replace, gradient, map, threads);
        let context = sizes.of_head(&kept.context, images, head).transposed();
        let (into, stride) = out.map(VALUE, head);
        product_strided(into, stride, Into::Replace, context, gradient, threads);
    }
    contexts
}

/// The backward pass of [`attend_images`], one image a thread, from the gradients of their contexts.
fn attend_images_backward(
    sizes: &Sizes,
    tokens: &[f32],
    views: &Views,
    kept: &Kept,
    contexts: &[f32],
) -> Vec<ImageGradients> {
    let Sizes {
        copies,
        count,
        width,
        ..
    } = *sizes;
    let (rows, columns) = (sizes.rows(), sizes.columns());
    contexts
        .par_chunks(rows * width)
        .zip(kept.attention.par_chunks(rows * columns))
        .zip(tokens.par_chunks(count * width))
        .enumerate()
        .with_max_len(1)
        .map(
            |(image, ((context, attention), tokens))| match views.affine {
                None => attend_backward(sizes, context, attention, tokens),
                Some(affine) => {
                    let forward = Forward {
                        folded: of_copy(&kept.folded, copies, image),
                        prompts: of_copy(views.prompts, copies, image),
                        plain: &kept.plain[image * rows * width..][..rows * width],
                        attention,
                        tokens,
                    };
                    attend_normed_backward(sizes, context, &forward, affine)
                }
            },
        )
        .collect()
}

/// The backward pass of [`folded_queries`]: gradients of the key and query maps into `out`, those of the prompts as queries
/// added to `prompts`.
fn folded_queries_backward(
    sizes: &Sizes,
    views: &Views,
    kept: &Kept,
    folded: &[f32],
    prompts: &mut [f32],
    out: &mut WeightGradients,
) {
    let Sizes {
        copies,
        groups,
        heads,
        width,
        ..
    } = *sizes;
    let threads = rayon::current_num_threads();
    let mut queries = vec![0.0; copies * groups * width];
    for head in 0..heads {
        let gradient = sizes.of_head(folded, copies, head);
        let map = views.key.head(sizes, head);
        let into = &mut queries[head * sizes.head()..];
        product_strided(into, width, Into::Replace, gradient, map, threads);
        let query = sizes.head_columns(&kept.queries, copies, head);
        let (into, stride) = out.map(KEY, head);
        let gradient = gradient.transposed();
        product_strided(into, stride, Into::Replace, gradient, query, threads);
    }
    queries.iter_mut().for_each(|q| *q *= sizes.scale);
    vector::add_column_sums(&queries, out.bias(QUERY));
    let gradient = Matrix::new(&queries, copies * groups, width);
    let map = views.query.columns(sizes, 0, width).transposed();
    product(prompts, Into::Add, gradient, map, threads);
    let own = Matrix::new(views.prompts, copies * groups, width).transposed();
    let (into, stride) = out.map(QUERY, 0);
    product_strided(into, stride, Into::Replace, own, gradient, threads);
}

/// Gradients that the images give: of the folded queries, of the prompts as keys, of scale and shift (one after
/// the other); empty where there is no such input.
struct ImageGradients {
    folded: Vec<f32>,
    prompts: Vec<f32>,
    affine: Vec<f32>,
}

impl ImageGradients {
    /// Adds the images' up, in their order; of queries and prompts only where all images share them.
    fn gather(images: Vec<Self>, copies: usize) -> Self {
        let mut images = images.into_iter();
        let mut sum = images.next().unwrap_or(Self {
            folded: Vec::new(),
            prompts: Vec::new(),
            affine: Vec::new(),
        });
        for image in images {
            add(&image.affine, &mut sum.affine);
            if copies == 1 {
                add(&image.folded, &mut sum.folded);
                add(&image.prompts, &mut sum.prompts);
            } else {
                sum.folded.extend(image.folded);
                sum.prompts.extend(image.prompts);
            }
        }
        sum
    }
}

const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;

/// Gradients of the weights, laid out as the weights are.
struct WeightGradients {
    width: usize,
    head: usize,
    /// One `[D, 3 D]`, or three `[D, D]`.
    maps: Vec<Vec<f32>>,
    /// One `[3 D]`, or three `[D]`.
    biases: Vec<Vec<f32>>,
}

impl WeightGradients {
    fn new(sizes: &Sizes) -> Self {
        let width = sizes.width;
        let (count, joined) = if sizes.own > 0 { (1, 3) } else { (3, 1) };
        Self {
            width,
            head: sizes.head(),
            maps: vec![vec![0.0; joined * width * width]; count],
            biases: vec![vec![0.0; joined * width]; count],
        }
    }

    /// The place of one of the three maps from a head's columns on, and the distance between its rows.
    fn map(&mut self, which: usize, head: usize) -> (&mut [f32], usize) {
        let first = head * self.head;
        match &mut self.maps[..] {
            [joined] => (&mut joined[which * self.width + first..], 3 * self.width),
            maps => (&mut maps[which][first..], self.width),
        }
    }

    fn bias(&mut self, which: usize) -> &mut [f32] {
        match &mut self.biases[..] {
            [joined] => &mut joined[which * self.width..][..self.width],
            biases => &mut biases[which],
        }
    }

    /// All gradients in the order of the inputs.
    fn finish(self, prompts: Vec<f32>, mut affine: Vec<f32>) -> Vec<Vec<f32>> {
        let mut biases = self.biases.into_iter();
        let mut maps = self.maps.into_iter();
        let mut all = vec![prompts];
        all.extend(maps.next());
        all.extend(biases.next());
        if affine.is_empty() {
            all.extend(maps);
            all.extend(biases.nth(1));
        } else {
            let beta = affine.split_off(self.width);
            all.extend([affine, beta]);
        }
        all
    }
}

/// The backward pass of [`attend`] and [`weigh`] for one image, from the gradient of its context.
fn attend_backward(
    sizes: &Sizes,
    context: &[f32],
    attention: &[f32],
    tokens: &[f32],
) -> ImageGradients {
    let Sizes { count, width, .. } = *sizes;
    let rows = sizes.rows();
    let mut logits = vec![0.0; rows * count];
    let gradient = Matrix::new(context, rows, width);
    let keys = Matrix::new(tokens, count, width).transposed();
    product(&mut logits, Into::Replace, gradient, keys, 1);
    softmax_rows_backward(attention, &mut logits, count);
    let mut folded = vec![0.0; rows * width];
    weigh(sizes, &logits, tokens, &mut folded);
    ImageGradients {
        folded,
        prompts: Vec::new(),
        affine: Vec::new(),
    }
}

/// What the forward pass of one image used and left.
struct Forward<'a> {
    folded: &'a [f32],
    prompts: &'a [f32],
    plain: &'a [f32],
    attention: &'a [f32],
    tokens: &'a [f32],
}

/// The backward pass of [`attend_normed`], [`weigh`] and [`spread`] for one image.
fn attend_normed_backward(
    sizes: &Sizes,
    context: &[f32],
    forward: &Forward,
    [gamma, beta]: [&[f32]; 2],
) -> ImageGradients {
    let width = sizes.width;
    let rows = sizes.rows();
    let mut affine = vec![0.0; 2 * width];
    let (gamma_gradient, beta_gradient) = affine.split_at_mut(width);
    let sums = token_sums(sizes, forward.attention);
    affine_rows_backward(context, forward.plain, &sums, gamma_gradient, beta_gradient);

    let (logits, mut plain) = logits_backward(sizes, context, forward, [gamma, beta]);
    weigh(sizes, &logits, forward.tokens, &mut plain);
    let sums = token_sums(sizes, &logits);
    affine_rows_backward(forward.folded, &plain, &sums, gamma_gradient, beta_gradient);
    let mut folded = vec![0.0; rows * width];
    let prompts = forward.prompts;
    spread(sizes, &logits, &plain, [gamma, beta], prompts, &mut folded);
    ImageGradients {
        folded,
        prompts: own_backward(sizes, context, forward, &logits),
        affine,
    }
}

/// Gradients of the logits `[M heads, J]`, and room for `[M heads, D]` that is not needed any more.
fn logits_backward(
    sizes: &Sizes,
    context: &[f32],
    forward: &Forward,
    [gamma, beta]: [&[f32]; 2],
) -> (Vec<f32>, Vec<f32>) {
    let Sizes {
        own, count, width, ..
    } = *sizes;
    let (rows, columns) = (sizes.rows(), sizes.columns());
    // Of the weights, then of the logits.
    let mut logits = vec![0.0; rows * columns];
    let gradient = Matrix::new(context, rows, width);
    let prompts = Matrix::new(forward.prompts, own, width).transposed();
    product_strided(&mut logits, columns, Into::Replace, gradient, prompts, 1);
    let mut scaled = vec![0.0; rows * width];
    let mut offsets = vec![0.0; rows];
    scale_rows(context, gamma, &mut scaled);
    dot_rows(context, beta, &mut offsets);
    let tokens = Matrix::new(forward.tokens, count, width).transposed();
    let gradient = Matrix::new(&scaled, rows, width);
    let into = &mut logits[own..];
    product_strided(into, columns, Into::Replace, gradient, tokens, 1);
    for (row, offset) in logits.chunks_exact_mut(columns).zip(offsets) {
        row[own..].iter_mut().for_each(|x| *x += offset);
    }
    softmax_rows_backward(forward.attention, &mut logits, columns);
    (logits, scaled)
}

/// Gradients of the prompts as keys and values, `[M, D]`, from those of the context and the logits.
fn own_backward(sizes: &Sizes, context: &[f32], forward: &Forward, logits: &[f32]) -> Vec<f32> {
    let Sizes { own, width, .. } = *sizes;
    let (rows, columns) = (sizes.rows(), sizes.columns());
    let mut prompts = vec![0.0; own * width];
    let of_own = |weights| Matrix::strided(weights, rows, own, columns).transposed();
    let gradient = Matrix::new(context, rows, width);
    let attention = of_own(forward.attention);
    product(&mut prompts, Into::Replace, attention, gradient, 1);
    let queries = Matrix::new(forward.folded, rows, width);
    product(&mut prompts, Into::Add, of_own(logits), queries, 1);
    prompts
}

/// Rows of tokens `[.., D]` to mean 0 and variance 1, LayerNorm without its scale and shift.
pub(crate) fn standardise(tokens: &Tensor<3>, epsilon: f32) -> Tensor<3> {
    let shape = tokens.dims();
    let tokens = device::flex(tokens.clone().inner());
    let mut out = device::values(&tokens).to_vec();
    out.par_chunks_mut(shape[1] * shape[2])
        .for_each(|rows| standardise_rows(rows, shape[2], epsilon));
    Tensor::from_primitive::<Flex>(device::flex_from(out, &shape))
}
