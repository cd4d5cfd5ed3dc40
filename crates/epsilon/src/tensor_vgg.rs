//! VGG over the tensor framework, for GPUs: what [`backbone::Vgg`](epsilon_vision::backbone::Vgg) computes on the CPU, by the
//! framework's convolutions.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData, activation, module};

use crate::device;
use epsilon_vision::backbone::{
    Backbone, BackboneError, BackboneInfo, Features, Linear, Pending, VggWeights,
};

/// A VGG on a device of the framework.
pub struct TensorVgg {
    info: BackboneInfo,
    convolutions: Vec<Convolution>,
    /// The fully connected layers, a ReLU after each.
    connected: [Map; 2],
    /// The classifier, where its scores are the global vector.
    scores: Option<Map>,
    device: Device,
}

struct Convolution {
    /// `[outputs, inputs, 3, 3]`.
    weight: Tensor<4>,
    bias: Tensor<1>,
    /// Whether a 2 x 2 maximum stands before it.
    pooled: bool,
}

/// A linear map.
struct Map {
    /// `[inputs, outputs]`.
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Map {
    fn new(linear: &Linear, device: &Device) -> Self {
        let outputs = linear.bias.len();
        let shape = [outputs, linear.weight.len() / outputs];
        Self {
            weight: put(&linear.weight, shape, device).transpose(),
            bias: put(&linear.bias, [outputs], device),
        }
    }

    /// Of rows `[B, inputs]`, `[B, outputs]`.
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone()) + self.bias.clone().unsqueeze()
    }
}

fn put<const R: usize>(values: &[f32], shape: [usize; R], device: &Device) -> Tensor<R> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

impl TensorVgg {
    /// Puts the weights on a device.
    pub fn new(weights: &VggWeights, device: &Device) -> Self {
        let convolutions = weights.convolutions().iter();
        let convolutions = convolutions.map(|layer| {
            let outputs = layer.map.bias.len();
            Convolution {
                weight: put(&layer.map.weight, [outputs, layer.inputs, 3, 3], device),
                bias: put(&layer.map.bias, [outputs], device),
                pooled: layer.pooled,
            }
        });
        Self {
            info: weights.info(),
            convolutions: convolutions.collect(),
            connected: weights
                .connected()
                .each_ref()
                .map(|map| Map::new(map, device)),
            scores: weights.scores().map(|map| Map::new(map, device)),
            device: device.clone(),
        }
    }
}

/// Has a backbone's tokens and global vectors copied to the host, and waits for them when it is asked to.
pub(crate) fn pending<const R: usize, const G: usize>(
    tokens: Tensor<R>,
    global: Tensor<G>,
) -> Pending {
    let (tokens, global) = (device::fetch(tokens), device::fetch(global));
    Box::new(move |out| {
        out.tokens = tokens();
        out.global = global();
        Ok(())
    })
}

/// The maximum of every 2 x 2 pixels.
fn pool(x: Tensor<4>) -> Tensor<4> {
    let [count, channels, height, width] = x.dims();
    x.reshape([count, channels, height / 2, 2, width / 2, 2])
        .max_dim(5)
        .max_dim(3)
        .reshape([count, channels, height / 2, width / 2])
}

impl Backbone for TensorVgg {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError> {
        self.begin(images, count)?(out)
    }

    fn start(
        &self,
        images: &[f32],
        count: usize,
        _: &mut Features,
    ) -> Result<Option<Pending>, BackboneError> {
        self.begin(images, count).map(Some)
    }

    fn device_batch(&self) -> Option<usize> {
        // The first convolutions, before any maximum, have the most values.
        let pixels = (self.info.preprocess.size as usize).pow(2);
        let channels = self
            .convolutions
            .first()
            .map_or(0, |first| first.bias.dims()[0]);
        device::batch(&self.device, pixels * channels)
    }
}

impl TensorVgg {
    /// Hands images `[B, 3, S, S]` to the device.
    fn begin(&self, images: &[f32], count: usize) -> Result<Pending, BackboneError> {
        self.info.check_images(images, count)?;
        let size = self.info.preprocess.size as usize;
        let mut x = put(images, [count, 3, size, size], &self.device);
        for layer in &self.convolutions {
            if layer.pooled {
                x = pool(x);
            }
            let (weight, bias) = (layer.weight.clone(), layer.bias.clone());
            let padded = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            x = activation::relu(module::conv2d(x, weight, Some(bias), padded));
        }
        // [B, D, rows, columns] to [B, N, D].
        let tokens: Tensor<3> = x.clone().flatten(2, 3);
        let side = VggWeights::POOLED;
        let pooled = module::adaptive_avg_pool2d(pool(x), [side, side]);
        let mut global: Tensor<2> = pooled.flatten(1, 3);
        for map in &self.connected {
            global = activation::relu(map.run(global));
        }
        if let Some(map) = &self.scores {
            global = map.run(global);
        }
        Ok(pending(tokens.swap_dims(1, 2), global))
    }
}
