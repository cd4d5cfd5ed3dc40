//! Label names and their vectors, and multi-label data sets as they are published.

pub mod dataset;
pub mod files;
pub mod formats;
pub mod labels;
