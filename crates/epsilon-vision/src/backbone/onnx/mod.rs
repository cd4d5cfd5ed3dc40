//! Backbones on ONNX Runtime: the network is written as an ONNX graph and run by the library, which is loaded when it is first asked
//! for, on the CPU or on an NVIDIA GPU.

mod graph;
mod proto;

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::ep;
use ort::session::Session;
use ort::value::TensorRef;

use super::{Backbone, BackboneError, BackboneInfo, Features, VitWeights};

const IMAGES: &str = "images";
const TOKENS: &str = "tokens";
const GLOBAL: &str = "global";

/// The environment variable with the path of ONNX Runtime's library; `libonnxruntime` of the system's where it is not set.
const LIBRARY: &str = "ORT_DYLIB_PATH";

/// A session of ONNX Runtime computes in f32, as the graph is written; a message of its own format takes 2 GB at most.
const LARGEST: usize = i32::MAX as usize;

/// What ONNX Runtime computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// All threads of the program's pool.
    Cpu,
    /// The first NVIDIA GPU. What it cannot do is computed on the CPU.
    Cuda,
}

/// A Vision Transformer or a relative on ONNX Runtime.
pub struct OnnxRuntime {
    session: Mutex<Session>,
    info: BackboneInfo,
}

impl OnnxRuntime {
    /// Writes the network as a graph and hands it over.
    ///
    /// # Errors
    /// [`BackboneError::OnnxRuntime`] where its library cannot be loaded, has no such provider, or does not take the graph.
    pub fn new(weights: &VitWeights, provider: Provider) -> Result<Self, BackboneError> {
        let model = graph::model(weights);
        if model.len() > LARGEST {
            let reason = format!("{}: more weights than it takes, 2 GB", weights.name);
            return Err(BackboneError::OnnxRuntime { reason });
        }
        let session = session(&model, provider).map_err(refused)?;
        Ok(Self {
            session: Mutex::new(session),
            info: weights.info(),
        })
    }
}

fn session(model: &[u8], provider: Provider) -> Result<Session, String> {
    let said = |error: ort::Error| error.to_string();
    let mut builder = Session::builder(environment()?).map_err(said)?;
    builder = builder
        .with_intra_threads(rayon::current_num_threads())
        .map_err(|error| error.to_string())?;
    if provider == Provider::Cuda {
        // Whoever asks for a GPU is not given the CPU without a word.
        let cuda = ep::CUDA::default().build().error_on_failure();
        builder = builder
            .with_execution_providers([cuda])
            .map_err(|error| error.to_string())?;
    }
    builder.commit_from_memory(model).map_err(said)
}

/// The library, loaded once.
fn environment() -> Result<&'static ort::environment::Environment, String> {
    static LOADED: OnceLock<Result<ort::environment::Environment, String>> = OnceLock::new();
    let load = || {
        let name = format!(
            "{}onnxruntime{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        );
        let path = std::env::var_os(LIBRARY).filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| name.into());
        let found = ort::init_from(Path::new(&path)).map_err(|error| {
            format!("{error}; {LIBRARY}=FILE names the library (it is in the Python package onnxruntime, or onnxruntime-gpu)")
        })?;
        found.build().map_err(|error| error.to_string())
    };
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn refused(reason: impl ToString) -> BackboneError {
    BackboneError::OnnxRuntime {
        reason: reason.to_string(),
    }
}

impl Backbone for OnnxRuntime {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError> {
        self.info.check_images(images, count)?;
        let size = self.info.preprocess.size as usize;
        let images = TensorRef::from_array_view(([count, 3, size, size], images));
        let inputs = ort::inputs![IMAGES => images.map_err(refused)?];
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let found = session.run(inputs).map_err(refused)?;
        let take = |name: &str, values: &mut Vec<f32>| -> Result<(), BackboneError> {
            let (_, given) = found[name].try_extract_tensor::<f32>().map_err(refused)?;
            values.clear();
            values.extend_from_slice(given);
            Ok(())
        };
        take(TOKENS, &mut out.tokens)?;
        take(GLOBAL, &mut out.global)
    }
}
