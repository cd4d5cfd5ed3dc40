//! Images drawn for sets of unseen labels, and the linear classifiers trained on them and the real ones.

use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::networks::{Conditions, Networks};
use super::{GenMlzsl, Images, normal};
use crate::device;
use crate::loss::{Negatives, soft_cross_entropy};
use crate::optimiser::{AdamSettings, OptimiserSettings};
use crate::parameters::{Spec, Start, Weights};

/// Drawn images.
pub(super) struct Drawn {
    /// Row-major `[images, G]`, in 0..1.
    values: Vec<f32>,
    /// The unseen labels of each, numbered among the unseen.
    sets: Vec<Vec<usize>>,
}

impl Drawn {
    /// As many images for every unseen label as the settings say.
    pub(super) fn new(
        settings: &GenMlzsl,
        networks: &Networks,
        generator: &Weights,
        images: &Images<'_>,
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let sizes: Vec<usize> = images.positives.iter().map(Vec::len).collect();
        let unseen = images.whole.unseen;
        let most = settings.most_labels.min(unseen.len());
        let sets = label_sets(unseen.len(), settings.samples, &sizes, most, rng);
        let mut values = Vec::with_capacity(sets.len() * images.width);
        for sets in sets.chunks(settings.batch) {
            let sets: Vec<&[usize]> = sets.iter().map(Vec::as_slice).collect();
            let on = Conditions::new(&sets, unseen, device);
            let noise = normal([sets.len(), networks.noise], rng, device);
            values.extend(device::host(&networks.draw(generator, noise, &on)));
        }
        Self { values, sets }
    }
}

/// `samples` sets of different labels for each of `labels`, which leads its own. A set's size is one of `sizes`, at most
/// `most`; its other labels are any.
fn label_sets(
    labels: usize,
    samples: usize,
    sizes: &[usize],
    most: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<usize>> {
    let leads = (0..labels).flat_map(|label| std::iter::repeat_n(label, samples));
    let complete = |label: usize| {
        let size = sizes[rng.random_range(0..sizes.len())].clamp(1, most);
        let others = rand::seq::index::sample(rng, labels - 1, size - 1);
        let others = others.into_iter();
        // The labels but `label`, numbered without it.
        let others = others.map(|other| if other < label { other } else { other + 1 });
        std::iter::once(label).chain(others).collect()
    };
    leads.map(complete).collect()
}

/// Which labels a head classifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadOf {
    /// The unseen ones, learnt from drawn images.
    Unseen,
    /// All, learnt from real and drawn images.
    All,
}

impl HeadOf {
    /// A linear map of images brought to 0..1, zero at first.
    pub(super) fn specs(self, images: &Images<'_>) -> Vec<Spec> {
        let seen = if self == Self::All { images.seen() } else { 0 };
        let labels = seen + images.whole.unseen.len();
        let zero = Start::Constant(0.0);
        vec![
            Spec::new("head.weight", &[images.width, labels], zero),
            Spec::new("head.bias", &[labels], zero),
        ]
    }
}

/// The heads' optimiser.
pub(super) fn adam() -> OptimiserSettings {
    OptimiserSettings::Adam(AdamSettings {
        weight_decay: 0.0,
        ..AdamSettings::default()
    })
}

/// What a linear classifier of some labels learns from.
pub(super) struct Head<'a> {
    images: &'a Images<'a>,
    drawn: &'a Drawn,
    /// How many of the real images it learns from: none or all.
    real: usize,
    /// Labels before the unseen ones: none or the seen ones.
    seen: usize,
}

impl<'a> Head<'a> {
    pub(super) fn new(of: HeadOf, images: &'a Images<'a>, drawn: &'a Drawn) -> Self {
        let (real, seen) = match of {
            HeadOf::Unseen => (0, 0),
            HeadOf::All => (images.len(), images.seen()),
        };
        Self {
            images,
            drawn,
            real,
            seen,
        }
    }

    fn labels(&self) -> usize {
        self.seen + self.images.whole.unseen.len()
    }

    /// Images `[B, G]`, whether each label is there, and whether it counts, both `[B, labels]`.
    pub(super) fn batch(
        &self,
        picks: &[usize],
        negatives: Negatives,
        device: &Device,
    ) -> [Tensor<2>; 3] {
        let (width, labels) = (self.images.width, self.labels());
        let mut values = Vec::with_capacity(picks.len() * width);
        let mut there = vec![0.0; picks.len() * labels];
        let mut counts = vec![1.0; picks.len() * labels];
        let rows = there
            .chunks_exact_mut(labels)
            .zip(counts.chunks_exact_mut(labels));
        for (&pick, (there, counts)) in picks.iter().zip(rows) {
            if let Some(drawn) = pick.checked_sub(self.real) {
                values.extend_from_slice(&self.drawn.values[drawn * width..][..width]);
                let set = &self.drawn.sets[drawn];
                set.iter().for_each(|&label| there[self.seen + label] = 1.0);
                continue;
            }
            self.images.append(pick, &mut values);
            let positives = &self.images.positives[pick];
            positives.iter().for_each(|&label| there[label] = 1.0);
            if negatives == Negatives::Annotated {
                self.images.annotated(pick, counts);
            }
        }
        let tensor = |values: Vec<f32>, width: usize| {
            Tensor::from_data(TensorData::new(values, [picks.len(), width]), device)
        };
        [
            tensor(values, width),
            tensor(there, labels),
            tensor(counts, labels),
        ]
    }
}

/// Weight `[G, labels]` and bias of a head for global vectors as they are, not brought to 0..1.
pub(super) fn unscaled(images: &Images<'_>, head: &Weights) -> [Vec<f32>; 2] {
    let mut weight = device::host(&head.get_flat("head.weight"));
    let bias = device::host(&head.get_flat("head.bias")).into_iter();
    let mut bias: Vec<f64> = bias.map(f64::from).collect();
    let channels = images.low.iter().zip(&images.range);
    for (row, (&low, &range)) in weight.chunks_exact_mut(bias.len()).zip(channels) {
        for (weight, bias) in row.iter_mut().zip(&mut bias) {
            *weight /= range;
            *bias -= f64::from(low) * f64::from(*weight);
        }
    }
    [weight, bias.into_iter().map(|v| v as f32).collect()]
}

impl Images<'_> {
    /// Sets `counts` to 1 for the labels annotated in an image and to 0 for the others, unseen ones too.
    pub(super) fn annotated(&self, image: usize, counts: &mut [f32]) {
        let (known, unknown) = counts.split_at_mut(self.seen());
        let targets = self.whole.targets.row(self.rows[image]);
        for (count, &target) in known.iter_mut().zip(targets) {
            *count = if target == 0 { 0.0 } else { 1.0 };
        }
        unknown.fill(0.0);
    }
}

/// Cross-entropy of the labels that count, summed over them and averaged over the images.
pub(super) fn loss(weights: &Weights, [images, there, counts]: [Tensor<2>; 3]) -> Tensor<1> {
    let (weight, bias) = weights.linear("head");
    let count = images.dims()[0];
    let logits = images.matmul(weight) + bias.unsqueeze();
    (soft_cross_entropy(logits, &there) * counts).sum() / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn label_sets_are_led_by_every_label_and_hold_each_once() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let sets = label_sets(6, 40, &[1, 2, 3, 9], 4, &mut rng);
        assert_eq!(sets.len(), 240);
        let mut sizes = [0; 5];
        for (place, set) in sets.iter().enumerate() {
            assert_eq!(set[0], place / 40);
            let mut sorted = set.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), set.len());
            assert!(sorted.iter().all(|&label| label < 6));
            sizes[set.len()] += 1;
        }
        // Sizes 1, 2, 3 and, of 9 at most, 4: about sixty of each.
        assert_eq!(sizes[0], 0);
        assert!(sizes[1..].iter().all(|&n| n > 35), "{sizes:?}");
        // Every label joins the sets of every other.
        for lead in 0..6 {
            let joined = |label| {
                sets[lead * 40..][..40]
                    .iter()
                    .any(|set| set.contains(&label))
            };
            assert!((0..6).all(joined));
        }
    }

    #[test]
    fn a_single_label_has_no_company() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        assert_eq!(label_sets(1, 2, &[3], 1, &mut rng), [[0], [0]]);
    }
}
