//! Tokens of many images: extraction with a backbone, and the store that keeps them on disk.

mod extract;
mod store;

pub(crate) use self::extract::extract_from;
pub use self::extract::{ExtractOptions, ExtractReport, FeatureError, Progress, extract};
pub use self::store::{Failure, Header, Manifest, Shard, StoreError, TokenStore, TokenType};
