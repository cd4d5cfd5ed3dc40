//! The ranking of BiAM's published script for Open Images: for the average precision of a label, all labels of the images
//! that are annotated for it ([`Pool::AnnotatedImages`](crate::Pool)).

use std::collections::HashMap;

use rayon::prelude::*;

use crate::entry::Entry;
use crate::error::MetricsError;
use crate::protocol::Unknown;
use crate::request::Request;
use crate::score::{Packed, Rankable};
use crate::table::{BLOCK_VALUES, Block, Table, check_block};

/// The annotated scores of a request's columns in the images kept, in row-major order.
pub(crate) struct Pools<P> {
    entries: Vec<Entry<P>>,
    /// Where the entries of each image of the table begin; one more at the end.
    starts: Vec<usize>,
    /// The annotated images of each column of the request.
    images: Vec<Vec<u32>>,
}

impl<P: Packed> Pools<P> {
    /// `kept` says for each image of the table whether the protocol keeps it.
    pub(crate) fn new<T: Table>(
        table: &T,
        request: &Request<'_>,
        kept: impl Fn(usize) -> bool,
    ) -> Result<Self, MetricsError>
    where
        T::Score: Rankable<Packed = P>,
    {
        let (width, all) = (table.labels(), table.images());
        let unknown_counts = request.protocol.settings().unknown == Unknown::Negative;
        let mut pools = Self {
            entries: Vec::new(),
            starts: vec![0],
            images: vec![Vec::new(); request.columns.len()],
        };
        let mut block = Block::default();
        let step = (BLOCK_VALUES / width).max(1);
        for first in (0..all).step_by(step) {
            let rows = first..all.min(first + step);
            let (scores, labels) = block.read(table, rows.clone(), 0..width)?;
            check_block(first, &(0..width), scores, labels)?;
            let cells = scores.chunks_exact(width).zip(labels.chunks_exact(width));
            for (image, (scores, labels)) in rows.zip(cells) {
                for (&column, images) in request.columns.iter().zip(&mut pools.images) {
                    if kept(image) && (unknown_counts || labels[column] != 0) {
                        let entry = Entry::new(image, scores[column], labels[column]);
                        pools.entries.push(entry);
                        images.push(image as u32);
                    }
                }
                pools.starts.push(pools.entries.len());
            }
        }
        Ok(pools)
    }

    /// `rank` of the pool of each column: best first, equal scores in row-major order. Columns with the same annotated images
    /// share a pool, which is ranked once. The `table` is asked whether to go on.
    pub(crate) fn map<T: Clone + Send>(
        &self,
        table: &impl Table,
        rank: impl Fn(&[Entry<P>]) -> T + Sync,
    ) -> Result<Vec<T>, MetricsError> {
        let mut places = HashMap::new();
        let mut distinct: Vec<&[u32]> = Vec::new();
        let of_column: Vec<usize> = (self.images.iter().map(Vec::as_slice))
            .map(|images| {
                *places.entry(images).or_insert_with(|| {
                    distinct.push(images);
                    distinct.len() - 1
                })
            })
            .collect();
        let ranked: Result<Vec<T>, MetricsError> = distinct
            .into_par_iter()
            .with_max_len(1)
            .map(|images| {
                table.ask()?;
                let of_image = |&image: &u32| {
                    let image = image as usize;
                    &self.entries[self.starts[image]..self.starts[image + 1]]
                };
                let mut pool: Vec<Entry<P>> = images.iter().flat_map(of_image).copied().collect();
                pool.sort_by_key(|entry| entry.order());
                Ok(rank(&pool))
            })
            .collect();
        let ranked = ranked?;
        let of_column = of_column.into_iter();
        Ok(of_column.map(|place| ranked[place].clone()).collect())
    }
}
