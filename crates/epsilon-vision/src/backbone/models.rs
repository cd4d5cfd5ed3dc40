//! Published models that run here and need no training, with what was read of each where it is published: so that nobody has to
//! know hub ids by heart. Nothing else in the program depends on this table.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::HUB_PREFIX;

/// What a model says of a photograph without training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// An image and a text tower: any words ([`super::TextTower`]).
    ImageText,
    /// A network with a classifier's head: the scores of its own classes ([`super::Global::Classes`]).
    Classifier,
}

/// A published model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PublishedModel {
    /// Short name, for `--model`.
    pub name: &'static str,
    /// Where it is, `OWNER/NAME` on the Hugging Face hub.
    pub id: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it says of a photograph.
    pub kind: ModelKind,
    /// Bytes that are downloaded, weights and tokenizer, as the hub rounds them.
    pub bytes: u64,
    /// Licence of the weights, by its SPDX name.
    pub licence: &'static str,
    /// Values of the network.
    pub parameters: u64,
    /// Photographs a second: 96 of 192 x 128 pixels, with random weights of a plain ViT of the same shape, by `bench_extract` on 2
    /// cores of an AMD EPYC with AVX-512, in f32.
    pub photographs_per_second: f32,
    /// Top-1 accuracy on ImageNet in percent as published: zero-shot for [`ModelKind::ImageText`], of the trained head for
    /// [`ModelKind::Classifier`]. The two are not comparable.
    pub imagenet: f32,
    /// Where that figure is published.
    pub source: &'static str,
}

/// The name of the one to take where nothing speaks for another: half the download of SigLIP 2, and a probability a label.
pub const DEFAULT_MODEL: &str = "siglip-b16";

const OPEN_CLIP: &str =
    "https://github.com/mlfoundations/open_clip/blob/main/docs/openclip_classification_results.csv";
const TINY_CLIP: &str = "https://github.com/microsoft/Cream/blob/main/TinyCLIP/README.md";
const DEIT: &str = "https://github.com/facebookresearch/deit/blob/main/README_deit.md";

/// The models, image and text towers first.
pub const MODELS: [PublishedModel; 12] = [
    PublishedModel {
        name: "siglip-b16",
        id: "google/siglip-base-patch16-224",
        about: "SigLIP, ViT-B/16, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 816_000_000,
        licence: "Apache-2.0",
        parameters: 203_155_970,
        photographs_per_second: 12.0,
        imagenet: 76.0,
        source: OPEN_CLIP,
    },
    PublishedModel {
        name: "siglip2-b16",
        id: "google/siglip2-base-patch16-224",
        about: "SigLIP 2, ViT-B/16, 224 pixels; many languages",
        kind: ModelKind::ImageText,
        bytes: 1_535_000_000,
        licence: "Apache-2.0",
        parameters: 375_187_970,
        photographs_per_second: 12.0,
        imagenet: 78.2,
        source: "https://github.com/google-research/big_vision/blob/main/big_vision/configs/proj/image_text/README_siglip2.md",
    },
    PublishedModel {
        name: "clip-b32",
        id: "openai/clip-vit-base-patch32",
        about: "CLIP, ViT-B/32, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 609_000_000,
        licence: "MIT",
        parameters: 151_277_313,
        photographs_per_second: 41.0,
        imagenet: 63.3,
        source: OPEN_CLIP,
    },
    PublishedModel {
        name: "clip-b16",
        id: "openai/clip-vit-base-patch16",
        about: "CLIP, ViT-B/16, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 603_000_000,
        licence: "MIT",
        parameters: 149_620_737,
        photographs_per_second: 12.0,
        imagenet: 68.3,
        source: OPEN_CLIP,
    },
    PublishedModel {
        name: "datacomp-b32",
        id: "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        about: "CLIP on DataComp, ViT-B/32, 256 pixels; English; a third of the work of B/16",
        kind: ModelKind::ImageText,
        bytes: 609_000_000,
        licence: "MIT",
        parameters: 151_288_833,
        photographs_per_second: 33.0,
        imagenet: 72.8,
        source: OPEN_CLIP,
    },
    PublishedModel {
        name: "datacomp-b16",
        id: "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        about: "CLIP on DataComp, ViT-B/16, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 603_000_000,
        licence: "MIT",
        parameters: 149_620_737,
        photographs_per_second: 12.0,
        imagenet: 73.5,
        source: OPEN_CLIP,
    },
    PublishedModel {
        name: "tinyclip-39m",
        id: "wkcn/TinyCLIP-ViT-39M-16-Text-19M-YFCC15M",
        about: "TinyCLIP, ViT of 39 million parameters, patches of 16, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 334_000_000,
        licence: "MIT",
        parameters: 83_101_185,
        photographs_per_second: 26.0,
        imagenet: 63.5,
        source: TINY_CLIP,
    },
    PublishedModel {
        name: "tinyclip-40m",
        id: "wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M",
        about: "TinyCLIP, ViT of 40 million parameters, patches of 32, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 339_000_000,
        licence: "MIT",
        parameters: 84_205_569,
        photographs_per_second: 80.0,
        imagenet: 59.8,
        source: TINY_CLIP,
    },
    PublishedModel {
        name: "tinyclip-8m",
        id: "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
        about: "TinyCLIP, ViT of 8 million parameters, patches of 16, 224 pixels; English",
        kind: ModelKind::ImageText,
        bytes: 96_000_000,
        licence: "MIT",
        parameters: 23_446_017,
        photographs_per_second: 101.0,
        imagenet: 41.1,
        source: TINY_CLIP,
    },
    PublishedModel {
        name: "vit-b16",
        id: "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        about: "ViT-B/16, 224 pixels; ImageNet's 1,000 classes",
        kind: ModelKind::Classifier,
        bytes: 346_000_000,
        licence: "Apache-2.0",
        parameters: 86_567_656,
        photographs_per_second: 12.0,
        imagenet: 85.1,
        source: "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv",
    },
    PublishedModel {
        name: "deit-small",
        id: "timm/deit_small_patch16_224.fb_in1k",
        about: "DeiT-Small, 224 pixels; ImageNet's 1,000 classes",
        kind: ModelKind::Classifier,
        bytes: 88_200_000,
        licence: "Apache-2.0",
        parameters: 22_050_664,
        photographs_per_second: 44.0,
        imagenet: 79.9,
        source: DEIT,
    },
    PublishedModel {
        name: "deit-tiny",
        id: "timm/deit_tiny_patch16_224.fb_in1k",
        about: "DeiT-Tiny, 224 pixels; ImageNet's 1,000 classes",
        kind: ModelKind::Classifier,
        bytes: 22_900_000,
        licence: "Apache-2.0",
        parameters: 5_717_416,
        photographs_per_second: 143.0,
        imagenet: 72.2,
        source: DEIT,
    },
];

/// The model of a short name.
///
/// ```
/// use epsilon_vision::backbone::{DEFAULT_MODEL, model};
///
/// assert_eq!(model("deit-tiny").unwrap().id, "timm/deit_tiny_patch16_224.fb_in1k");
/// assert!(model(DEFAULT_MODEL).is_some() && model("another").is_none());
/// ```
pub fn model(name: &str) -> Option<&'static PublishedModel> {
    static ALL: [PublishedModel; MODELS.len()] = MODELS;
    ALL.iter().find(|model| model.name == name)
}

/// The model of the table that a short name stands for, unless a file or folder has that name.
pub fn published(named: &Path) -> Option<&'static PublishedModel> {
    let model = named.to_str().and_then(model)?;
    (!named.exists()).then_some(model)
}

/// What a short name of the table stands for, `hf:OWNER/NAME`; anything else as it is.
///
/// ```
/// use epsilon_vision::backbone::by_name;
/// use std::path::Path;
///
/// assert_eq!(by_name(Path::new("clip-b32")), Path::new("hf:openai/clip-vit-base-patch32"));
/// assert_eq!(by_name(Path::new("model.safetensors")), Path::new("model.safetensors"));
/// ```
pub fn by_name(named: &Path) -> PathBuf {
    match published(named) {
        Some(model) => format!("{HUB_PREFIX}{}", model.id).into(),
        None => named.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::is_hub_id;
    use super::*;

    #[test]
    fn the_table_agrees_with_itself() {
        let names: BTreeSet<&str> = MODELS.iter().map(|model| model.name).collect();
        let ids: BTreeSet<&str> = MODELS.iter().map(|model| model.id).collect();
        assert_eq!((names.len(), ids.len()), (MODELS.len(), MODELS.len()));
        assert_eq!(model(DEFAULT_MODEL).unwrap().kind, ModelKind::ImageText);
        for model in MODELS {
            assert!(is_hub_id(Path::new(&format!("hf:{}", model.id))));
            assert!((1.0..100.0).contains(&model.imagenet), "{}", model.name);
            // All are published in f32; a tokenizer is up to 35 MB.
            let weights = 4 * model.parameters;
            let beside = model.bytes.saturating_sub(weights);
            assert!(beside < 36_000_000, "{}: {beside} bytes beside", model.name);
            assert!(model.bytes + model.bytes / 100 > weights, "{}", model.name);
        }
    }
}
