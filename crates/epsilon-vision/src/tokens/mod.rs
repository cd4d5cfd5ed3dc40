//! Tokens of many images: extraction with a backbone, and the store that keeps them on disk.

mod error;
mod extract;
mod merge;
mod part;
mod pipeline;
mod source;
mod store;
mod writer;

pub use self::error::FeatureError;
pub use self::extract::{Earlier, ExtractOptions, Progress, extract, extract_beyond, write_store};
pub use self::merge::{MergeError, join, merge};
pub use self::part::{NoPart, Part};
pub use self::pipeline::{
    FeatureBatch, MakeFeatures, Pace, Read, ReadResult, Source, Unread, read_photo, run,
    run_source, usual_batch,
};
pub use self::source::{ArrayError, Pooling, TokenArrays, TokenRows, TokenSource};
pub use self::store::{
    Failure, Header, Manifest, PartOf, Shard, StoreError, TokenStore, TokenType,
};
pub use self::writer::{ExtractReport, StoreSettings, StoreWriter};
