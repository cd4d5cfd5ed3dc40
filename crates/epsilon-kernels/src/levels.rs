//! Every kernel at every instruction set that this machine has: the same, or within the stated bounds.

use crate::attention::{Attention, attend};
use crate::cpu::cap::at_every_level;
use crate::cpu::{Int8, Int8Instructions};
use crate::finish::{After, Finish};
use crate::linear::{Arithmetic, Encoded, LinearMap};
use crate::packed::{Packed, Rows, product};
use crate::rows::{self, Norm, layer_norm};
use crate::{bf16, vector};

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

/// The results differ by no more than `bound` from the portable ones.
fn compare(name: &str, bound: f32, work: impl Fn() -> Vec<f32>) {
    let results = at_every_level(work);
    let (_, expected) = &results[0];
    for (level, ours) in &results[1..] {
        assert_eq!(ours.len(), expected.len());
        for (a, b) in ours.iter().zip(expected) {
            assert!((a - b).abs() <= bound, "{name}, {level:?}: {a} for {b}");
        }
    }
}

#[test]
fn products_with_what_follows() {
    let (a, b, bias) = (wave(27 * 19, 0.7), wave(45 * 19, 0.3), wave(45, 0.9));
    let packed = Packed::transposed(&b, 19, 19);
    let rows = Rows {
        data: &a,
        stride: 19,
        count: 27,
    };
    for after in [
        After::Store,
        After::Add,
        After::Gelu,
        After::QuickGelu,
        After::TanhGelu,
    ] {
        compare("product", 2e-5, || {
            let mut out = wave(27 * 45, 0.1);
            let finish = Finish { bias: &bias, after };
            product(rows, &packed, finish, &mut out, 45);
            out
        });
    }
    compare("attention", 2e-6, || {
        let mut out = vec![0.0; 9 * 6];
        let qkv = Rows {
            data: &a,
            stride: 19,
            count: 9,
        };
        let room = &mut Attention::default();
        attend(
            Arithmetic::F32,
            qkv,
            [2, 3],
            0..qkv.count,
            true,
            room,
            &mut out,
            6,
        );
        out
    });
}

/// The whole sums are the same; what is made of them differs by rounding.
#[test]
fn maps_in_bytes() {
    // Of one part and of four.
    for depth in [53, 64] {
        let (x, weight, bias) = (wave(27 * depth, 0.7), wave(45 * depth, 0.3), wave(45, 0.9));
        let rows = Rows {
            data: &x,
            stride: depth,
            count: 27,
        };
        compare("a map in bytes", 2e-6, || {
            let arithmetic = Arithmetic::Int8(Int8Instructions(Int8::current()));
            let map = LinearMap::new(&weight, &bias, arithmetic);
            let (mut encoded, mut out) = (Encoded::default(), vec![0.0; 27 * 45]);
            let x = encoded.encode(arithmetic, rows, depth);
            map.apply(x, After::Store, &mut out, 45);
            out
        });
    }
}

#[test]
fn element_by_element() {
    let x: Vec<f32> = wave(501, 0.7).iter().map(|x| 5.0 * x).collect();
    compare("gelu", 1e-6, || {
        let mut out = vec![0.0; x.len()];
        vector::gelu(&x, &mut out);
        out
    });
    compare("GELU's gradient", 2e-6, || {
        let (mut out, mut gradient) = (x.clone(), wave(x.len(), 0.2));
        vector::gelu_backward_in_place(&mut out, &mut gradient);
        out.extend(gradient);
        out
    });
    compare("ranking pairs", 1e-3, || {
        let (mut out, mut sums) = (vec![0.0; x.len()], [0.0; 2]);
        vector::logistic_pairs(&x, 0.5, &mut out, &mut sums);
        out.extend(sums.map(|sum| sum as f32));
        out
    });
    compare("Adam", 1e-6, || {
        let [mut weight, mut first, mut second] = [x.clone(), wave(501, 0.1), vec![0.5; 501]];
        let constants = [1e-2, 0.9, 0.999, 1e-8, 1e-3];
        vector::adam(
            &wave(501, 0.3),
            &mut weight,
            &mut first,
            &mut second,
            constants,
        );
        [weight, first, second].concat()
    });
    compare("bf16", 0.0, || {
        let (mut words, mut out) = (vec![0; 250], vec![0.0; 500]);
        bf16::encode(&x[..500], &mut words);
        bf16::decode(&words, &mut out);
        out
    });
    compare("sums", 1e-5, || {
        let mut out = wave(501, 0.3);
        vector::add(&x, &mut out);
        vector::add_product(&x, &x, &mut out);
        vector::add_scaled(&x, 0.3, &mut out);
        vector::add_row(&mut out, &x[..3]);
        let mut sum = vec![0.0; 167];
        vector::add_column_sums(&x, &mut sum);
        out.extend(sum);
        out
    });
}

#[test]
fn row_by_row() {
    let (width, x) = (45, wave(9 * 45, 0.7));
    let norm = Norm {
        weight: wave(width, 0.3),
        bias: wave(width, 0.2),
        epsilon: 1e-6,
    };
    compare("normalisation", 5e-6, || {
        let (mut standard, mut out) = (x.clone(), vec![0.0; width]);
        rows::standardise_rows(&mut standard, width, 1e-6);
        layer_norm(&x[..width], &norm, &mut out);
        out.extend(standard);
        out
    });
    compare("softmax", 1e-6, || {
        let (mut soft, mut gradient) = (x.clone(), wave(x.len(), 0.4));
        rows::softmax_rows(&mut soft, width);
        rows::softmax_rows_backward(&soft, &mut gradient, width);
        soft.extend(gradient);
        soft
    });
    compare("softmax sum", 1e-6, || {
        let (mut logits, mut sum) = (x.clone(), vec![0.0; width]);
        rows::softmax_sum(&wave(x.len(), 0.4), &mut logits, &mut sum);
        let mut values = wave(x.len(), 0.4);
        rows::softmax_sum_backward_in_place(&mut logits, &mut values, &sum, &wave(width, 0.1));
        [logits, sum, values].concat()
    });
    compare("affine rows", 5e-6, || {
        let (mut out, mut scale, mut shift) = (x.clone(), wave(width, 0.5), wave(width, 0.6));
        rows::affine_rows(&x, &norm.weight, &wave(9, 0.3), &norm.bias, &mut out);
        rows::affine_rows_backward(&out, &x, &wave(9, 0.3), &mut scale, &mut shift);
        let (mut scaled, mut dots) = (vec![0.0; x.len()], vec![0.0; 9]);
        rows::scale_rows(&x, &scale, &mut scaled);
        rows::dot_rows(&x, &shift, &mut dots);
        [out, scale, shift, scaled, dots].concat()
    });
    compare("the largest of groups", 1e-5, || {
        let (mut scores, mut winners) = (vec![f32::NEG_INFINITY; width], vec![0; width]);
        rows::largest_of_groups(&x, &mut scores, &mut winners);
        let mut out = vec![0.0; 9 * 7];
        rows::add_to_winners(&wave(width * 7, 0.2), &scores, &winners, &mut out);
        out.extend(scores);
        out.extend(winners.iter().map(|&winner| f32::from(winner)));
        out
    });
}
