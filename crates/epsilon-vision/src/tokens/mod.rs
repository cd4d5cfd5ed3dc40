//! Tokens of many images: extraction with a backbone, and the store that keeps them on disk.

mod extract;
mod merge;
mod pipeline;
mod store;

pub use self::extract::extract_from;
pub use self::extract::{
    ExtractOptions, ExtractReport, FeatureError, NoPart, Part, Progress, extract,
};
pub use self::merge::{MergeError, merge};
pub use self::pipeline::{Looked, look, usual_batch};
pub use self::store::{
    Failure, Header, Manifest, PartOf, Shard, StoreError, TokenStore, TokenType,
};
