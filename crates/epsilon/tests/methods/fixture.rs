//! What a twin wrote: a method with its settings and weights, a batch, and what must come out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use epsilon::batch::{Batch, Dims, Draws, Targets, TrainingPrecision};
use epsilon::burn::tensor::{Tensor, TensorData};
use epsilon::labels::LabelVectors;
use epsilon::methods::Kind;
use epsilon::parameters::Weights;
use safetensors::{Dtype, SafeTensors};

use crate::device::device;

pub(crate) struct Fixture {
    pub name: String,
    pub kind: Kind,
    /// How many of the labels, the last ones, are unseen.
    unseen: usize,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    labels: Vec<i8>,
}

impl Fixture {
    /// Every fixture, by name.
    pub(crate) fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/methods/fixtures");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["config"];
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        let kind = serde_json::from_value(config["method"].clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let unseen = config["unseen"].as_u64().unwrap_or(0) as usize;
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = BTreeMap::new();
        let mut labels = Vec::new();
        for (tensor, view) in file.tensors() {
            if view.dtype() == Dtype::I8 {
                labels = view.data().iter().map(|&b| b as i8).collect();
                continue;
            }
            assert_eq!(view.dtype(), Dtype::F32, "{name}: {tensor}");
            let values = view.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            tensors.insert(tensor, (view.shape().to_vec(), values.collect()));
        }
        Self {
            name,
            kind,
            unseen,
            tensors,
            labels,
        }
    }

    fn shape(&self, tensor: &str) -> &[usize] {
        &self.tensors[tensor].0
    }

    pub(crate) fn tensor(&self, name: &str) -> &[f32] {
        let found = self.tensors.get(name);
        &found
            .unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
            .1
    }

    /// What follows a prefix in the names of the tensors that have it.
    pub(crate) fn names(&self, prefix: &str) -> BTreeSet<&str> {
        let names = self.tensors.keys();
        names.filter_map(|name| name.strip_prefix(prefix)).collect()
    }

    pub(crate) fn images(&self) -> usize {
        self.shape("tokens")[0]
    }

    fn labels(&self) -> usize {
        self.shape("label_vectors")[0]
    }

    pub(crate) fn dims(&self) -> Dims {
        let [width, global] = [self.shape("tokens")[2], self.shape("global")[1]];
        Dims {
            tokens: self.shape("tokens")[1],
            width,
            label_width: self.shape("label_vectors")[1],
            labels: self.labels() - self.unseen,
            unseen: self.unseen,
            global: (global != width).then_some(global),
        }
    }

    pub(crate) fn weights(&self) -> Weights {
        let specs = self.kind.specs(&self.dims()).unwrap();
        let value = |name: &str| self.tensor(&format!("weight.{name}")).to_vec();
        let values = specs.iter().map(|spec| {
            let name = format!("weight.{}", spec.name);
            assert_eq!(self.shape(&name), spec.shape, "{}: {name}", self.name);
            (spec.name.clone(), value(&spec.name))
        });
        let values = values.collect();
        Weights::from_values(specs, values, &device()).unwrap()
    }

    pub(crate) fn batch(&self) -> Batch {
        let get =
            |name: &str| TensorData::new(self.tensor(name).to_vec(), self.shape(name).to_vec());
        let dims = self.dims();
        let names = (0..self.labels()).map(|label| label.to_string()).collect();
        let vectors = self.tensor("label_vectors").to_vec();
        let host = LabelVectors::new(names, dims.label_width, vectors).unwrap();
        Batch {
            tokens: Tensor::from_data(get("tokens"), &device()),
            global: Tensor::from_data(get("global"), &device()),
            label_vectors: Tensor::from_data(get("label_vectors"), &device()),
            label_vectors_host: Arc::new(host),
            targets: Targets::new(self.labels.clone(), self.labels()),
            columns: (0..self.labels()).collect(),
            precision: TrainingPrecision::F32,
            draws: Draws::default(),
        }
    }
}

#[track_caller]
pub(crate) fn assert_close(name: &str, ours: &[f32], theirs: &[f32], relative: f32) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let scale = theirs.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    // A gradient that cancels exactly is about 1e-17 there; rounding is all that is left of it here.
    let tolerance = if scale < 1e-12 {
        1e-6
    } else {
        relative * scale
    };
    let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    // Not `max`, which would let a NaN pass.
    let worst = apart.max_by(f32::total_cmp).unwrap_or_default();
    assert!(worst <= tolerance, "{name}: {worst} apart at scale {scale}");
}
