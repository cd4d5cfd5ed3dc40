//! DINOv2, with and without registers, with transformers' names.
//! Source: <https://github.com/huggingface/transformers>, `models/dinov2/modeling_dinov2.py`.

use super::super::tensors::Reader;
use super::super::{BackboneError, Network};
use super::source::{DINO, Source};
use super::vision_transformer::Names;
use super::{Family, huggingface_vit, timm};

pub(super) const FAMILY: Family = Family {
    name: "dinov2-huggingface",
    about: "DINOv2, with and without registers, with transformers' names",
    recognised_by: &[
        "embeddings.cls_token",
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layer_scale1.lambda1",
        "encoder.layer.0.attention.attention.query.weight",
        "layernorm.weight",
    ],
    prefixes: &["", "dinov2.", "dinov2_with_registers."],
    tokens: timm::FAMILY.tokens,
    widths: "small 256 x 384, base 256 x 768, large 256 x 1024; global as wide",
    typical: &[
        "facebook/dinov2-small",
        "facebook/dinov2-base",
        "facebook/dinov2-with-registers-base",
    ],
    projects: false,
    preprocess: "shorter side to 256, centre 224, bicubic, ImageNet mean and deviation",
};

const NAMES: Names = Names {
    norms: ["norm1", "norm2"],
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: ["layer_scale1.lambda1", "layer_scale2.lambda1"],
    ..huggingface_vit::NAMES
};

/// Reads the weights.
pub(super) fn read(source: &Source, reader: Reader) -> Result<Network, BackboneError> {
    huggingface_vit::read_parts(source, reader, &NAMES, DINO, true)
}
