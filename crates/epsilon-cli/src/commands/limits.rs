//! The largest photograph that is read, wherever photographs are.

use clap::Args;
use clap::builder::RangedI64ValueParser;
use epsilon::image::Limits;
use epsilon::recipe::Recipe;

/// Which photographs are too large to be read.
#[derive(Args, Default)]
pub(super) struct LimitArgs {
    /// Largest photograph that is read, in millions of pixels [default: 100, or what the recipe says].
    #[arg(long, value_name = "N", value_parser = RangedI64ValueParser::<u32>::new().range(1..=4000))]
    max_megapixels: Option<u32>,
}

impl LimitArgs {
    /// What is read where nothing else says so.
    pub(super) fn limits(&self) -> Limits {
        self.max_megapixels
            .map_or_else(Limits::default, Limits::megapixels)
    }

    /// Puts the limit into a recipe, in place of its own.
    pub(super) fn put_into(&self, recipe: &mut Recipe) {
        if self.max_megapixels.is_some() {
            recipe.features.max_megapixels = self.max_megapixels;
        }
    }
}
