//! Every method against its twin in PyTorch or NumPy (`reference/make_*.py`, which write `fixtures/*.safetensors`), by
//! finite differences, through a model file, and on 64 drawn scenes that it must fit.

#[path = "../common/device.rs"]
mod device;
mod fixture;
mod scenes;

use std::collections::BTreeSet;
use std::ops::ControlFlow::Continue;

use device::device;
use epsilon::batch::Batch;
use epsilon::burn::tensor::Tensor;
use epsilon::methods::{Fitting, Kind, Whole};
use fixture::{Fixture, assert_close};

#[test]
fn scores_equal_the_twins_within_1e_5() {
    for fixture in Fixture::all() {
        let weights = fixture.weights();
        let scores = fixture.kind.scores(&weights, &fixture.batch());
        assert_close(
            &fixture.name,
            &host(&scores),
            fixture.tensor("out.scores"),
            1e-5,
        );
    }
}

#[test]
fn losses_equal_the_twins_within_1e_5_and_their_gradients_within_1e_4() {
    for fixture in Fixture::all() {
        let Fitting::Gradient(method) = fixture.kind.fitting() else {
            continue;
        };
        let batch = fixture.batch();
        let weights = fixture.weights().tracked();
        let loss = method.loss(&weights, &batch, fixture.images());
        let value = [(loss.ranking + loss.regularisation) as f32];
        assert_close(
            &format!("{}: loss", fixture.name),
            &value,
            fixture.tensor("out.loss"),
            1e-5,
        );
        let names: BTreeSet<&str> = loss.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, fixture.names("kept."), "{}", fixture.name);
        for (name, kept) in &loss.kept {
            let label = format!("{}: kept {name}", fixture.name);
            assert_close(
                &label,
                &host(kept),
                fixture.tensor(&format!("kept.{name}")),
                1e-5,
            );
        }
        let gradients = weights.gradients(&mut loss.total.backward());
        for ((spec, _), ours) in weights.trained().zip(gradients) {
            let label = format!("{}: gradient of {}", fixture.name, spec.name);
            let theirs = fixture.tensor(&format!("grad.{}", spec.name));
            assert_close(&label, &host(&ours), theirs, 1e-4);
        }
    }
}

/// The slope along a direction, which is the gradient's sign so that all weights count, by central differences. Steps are
/// so short that few maxima change hands.
#[test]
fn gradients_equal_finite_differences() {
    const RISE: f64 = 5e-4;
    for fixture in Fixture::all() {
        let Fitting::Gradient(method) = fixture.kind.fitting() else {
            continue;
        };
        let batch = fixture.batch();
        let weights = fixture.weights().tracked();
        let loss = method.loss(&weights, &batch, fixture.images());
        let gradients = weights.gradients(&mut loss.total.backward());
        let slope: f64 = gradients.iter().map(|g| sum(&g.clone().abs())).sum();
        let moved = |by: f64| {
            let mut weights = fixture.weights();
            let specs: Vec<_> = weights
                .trained()
                .map(|(spec, _)| spec.name.clone())
                .collect();
            for (name, gradient) in specs.iter().zip(&gradients) {
                let value = weights.get_flat(name) + gradient.clone().sign() * by;
                weights.set(name, value);
            }
            let loss = method.loss(&weights.tracked(), &batch, fixture.images());
            loss.ranking + loss.regularisation
        };
        let step = (RISE / slope).min(1e-3);
        let measured = (moved(step) - moved(-step)) / (2.0 * step);
        assert!(
            (measured - slope).abs() <= 0.02 * slope.abs().max(1e-3),
            "{}: {measured} measured, {slope} computed",
            fixture.name
        );
    }
}

/// What the twin solved as one system of least squares, ours solves by its normal equations.
#[test]
fn the_closed_form_solves_to_the_twins_weights() {
    let all = Fixture::all();
    let fixture = all.iter().find(|fixture| fixture.name == "ridge").unwrap();
    let Fitting::Solved(method) = fixture.kind.fitting() else {
        panic!("ridge is solved in one go");
    };
    let batch = fixture.batch();
    let whole = Whole {
        global: fixture.tensor("global"),
        targets: &batch.targets,
        labels: &batch.label_vectors_host,
        unseen: &batch.label_vectors_host,
        seed: 0,
        ranks: &epsilon::ranks::Alone,
    };
    let weights = method.solve(&fixture.dims(), &whole, &device(), &mut || Continue(()));
    let weights = weights.unwrap();
    for (spec, ours) in weights.trained() {
        let theirs = fixture.tensor(&format!("weight.{}", spec.name));
        assert_close(&spec.name, &host(ours), theirs, 1e-5);
    }
}

#[test]
fn maps_equal_the_twins_within_1e_5() {
    let mut compared = 0;
    for fixture in Fixture::all() {
        let (weights, batch) = (fixture.weights(), fixture.batch());
        let [labels, tokens] = [batch.columns.len(), batch.tokens.dims()[1]];
        for (image, label) in (0..fixture.images()).flat_map(|i| (0..labels).map(move |l| (i, l))) {
            let one = Batch {
                tokens: batch.tokens.clone().narrow(0, image, 1),
                global: batch.global.clone().narrow(0, image, 1),
                ..batch.clone()
            };
            let maps = fixture.kind.maps(&weights, &one, label);
            let what: BTreeSet<&str> = maps.iter().map(|map| map.what).collect();
            assert_eq!(what, fixture.names("maps."), "{}", fixture.name);
            for map in maps {
                let theirs = fixture.tensor(&format!("maps.{}", map.what));
                let theirs = &theirs[(image * labels + label) * tokens..][..tokens];
                let name = format!("{}: {} of {image}, {label}", fixture.name, map.what);
                assert_close(&name, &map.values, theirs, 1e-5);
                compared += 1;
            }
        }
    }
    assert!(compared > 100);
}

/// A label's score is its best match among the semantic vectors, where a method has some.
#[test]
fn scores_follow_from_semantic_vectors() {
    let mut with = BTreeSet::new();
    for fixture in Fixture::all() {
        let (weights, batch) = (fixture.weights(), fixture.batch());
        let Some(vectors) = fixture.kind.semantic_vectors(&weights, &batch) else {
            continue;
        };
        let labels = batch.label_vectors.clone().transpose().unsqueeze();
        let matches: Tensor<3> = vectors.matmul(labels);
        let scores = host(&matches.max_dim(1));
        let theirs = fixture.tensor("out.scores");
        assert_close(&fixture.name, &scores, theirs, 1e-5);
        with.insert(fixture.kind.name());
    }
    let expected = [
        "clip-projection",
        "clip-zero-shot",
        "conse",
        "epsilon",
        "fast0tag",
        "label-em",
        "lesa",
        "ml2p-encoder",
        "ridge",
        "sdl",
    ];
    assert_eq!(with, BTreeSet::from(expected));
}

/// Every kind of method has a twin.
#[test]
fn no_method_is_left_out() {
    // The second is worked out by hand beside its code.
    let without = ["random", "class-words"];
    let fixtures = Fixture::all();
    for name in Kind::NAMES {
        let found = fixtures.iter().any(|fixture| fixture.kind.name() == name);
        assert!(found || without.contains(&name), "`{name}` has no fixture");
    }
}

fn host<const R: usize>(tensor: &Tensor<R>) -> Vec<f32> {
    tensor.to_data().try_to_vec().unwrap()
}

fn sum(tensor: &Tensor<1>) -> f64 {
    host(tensor).iter().map(|&v| f64::from(v)).sum()
}
