//! Runs the real program on a small world of its own: photographs, labels, vectors, backbone and recipe in a temporary
//! folder. What it says, what it exits with, and that nothing it wrote is lost.

mod anchor;
mod backbones;
mod bad_input;
mod bundle;
mod cases;
mod comparison;
#[cfg(feature = "wgpu")]
mod devices;
#[cfg(feature = "onnxruntime")]
mod engines;
mod explain;
mod export;
mod full_disk;
mod gallery;
mod hub;
mod kill;
mod learn;
mod library;
mod load;
mod manners;
mod photos;
mod private;
mod published;
mod quickstart;
mod ranks;
mod repeat;
mod report;
#[cfg(unix)]
mod review;
mod scores;
mod search;
mod serve;
mod serve_alone;
mod server;
mod shells;
#[cfg(unix)]
mod sidecars;
mod sources;
mod tower;
mod untrained;
mod whole_way;
mod words;
mod world;
