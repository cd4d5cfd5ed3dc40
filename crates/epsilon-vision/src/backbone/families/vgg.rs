//! VGG with torchvision's names, with and without batch norm.
//! Source: <https://github.com/pytorch/vision>, `torchvision/models/vgg.py`.

use super::super::tensors::Reader;
use super::super::{BackboneError, Network, vgg};
use super::Family;
use super::source::{IMAGENET, Source, Usual};
use crate::image::{Filter, Fit};

pub(super) const FAMILY: Family = Family {
    name: "vgg",
    about: "VGG with torchvision's names, with and without batch norm",
    recognised_by: &[
        "features.0.weight",
        "classifier.0.weight",
        "classifier.3.weight",
    ],
    prefixes: &[""],
    tokens: "the last convolution's map after its ReLU (VGG19: conv5_4); global: the second fully connected \
        layer after its ReLU, or the classes' scores (the last layer)",
    widths: "VGG19 196 x 512; global 4096",
    typical: &["vgg19-dcbb9e9d.pth", "vgg19_bn-c79401a0.pth"],
    projects: false,
    preprocess: "shorter side to 256, centre 224, bilinear, ImageNet mean and deviation",
};

const USUAL: Usual = Usual {
    fit: Fit::ShorterSide { resize: 256 },
    filter: Filter::Bilinear,
    ..IMAGENET
};

/// Reads the weights.
pub(super) fn read(source: &Source, mut reader: Reader) -> Result<Network, BackboneError> {
    let parts = vgg::read(&mut reader);
    reader.finish(source.family, |name| name.ends_with(".num_batches_tracked"))?;
    let preprocess = source.preprocess(224, USUAL)?;
    let size = preprocess.size;
    let weights = parts.finish(
        source.name.clone(),
        source.tensors.sha256.clone(),
        source.weights_key.clone(),
        preprocess,
        source.options.global,
    );
    let weights = weights.map_err(|reason| source.bad(format!("image size {size}: {reason}")))?;
    Ok(Network::Vgg(Box::new(weights)))
}
