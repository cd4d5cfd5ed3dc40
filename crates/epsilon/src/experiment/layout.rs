//! Where an experiment keeps its files.

use std::path::{Path, PathBuf};

use epsilon_vision::tokens::Part;

/// The files of an experiment in its folder.
///
/// ```
/// use std::path::Path;
///
/// use epsilon::experiment::Layout;
///
/// let layout = Layout(Path::new("runs/corel5k"));
/// assert_eq!(layout.tokens(), Path::new("runs/corel5k/tokens"));
/// assert_eq!(layout.model(3), Path::new("runs/corel5k/seed-3/model.safetensors"));
/// ```
pub struct Layout<'a>(pub &'a Path);

impl Layout<'_> {
    /// The folder where a recipe's experiment is kept unless another is given: `runs/` and the recipe's file name without its
    /// extension.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use epsilon::experiment::Layout;
    ///
    /// let folder = Layout::default_folder(Path::new("recipes/corel5k.toml"));
    /// assert_eq!(folder, Path::new("runs/corel5k"));
    /// ```
    pub fn default_folder(recipe: &Path) -> PathBuf {
        Path::new("runs").join(recipe.file_stem().unwrap_or_default())
    }

    /// The token store.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// The token store in this folder or, where it has none, in the nearest of the four above it: the trainings of a comparison, in
    /// `ROW/SETTING/FOLD/SEED` of its folder, share one.
    ///
    /// ```
    /// use epsilon::experiment::Layout;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let setting = folder.path().join("row/setting");
    /// std::fs::create_dir_all(&setting)?;
    /// std::fs::create_dir(folder.path().join("tokens"))?;
    /// assert_eq!(Layout(&setting).nearest_tokens(), Some(folder.path().join("tokens")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn nearest_tokens(&self) -> Option<PathBuf> {
        // An empty path, the folder of a file named alone, is the current folder.
        let folder = std::path::absolute(Path::new(".").join(self.0)).ok()?;
        let around = folder.ancestors().take(5);
        let mut around = around.map(|folder| Layout(folder).tokens());
        around.find(|tokens| tokens.is_dir())
    }

    /// The token store of one part of the images.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use epsilon::experiment::Layout;
    ///
    /// let part = Layout(Path::new("run")).part("2/3".parse()?);
    /// assert_eq!(part, Path::new("run/tokens-2-of-3"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn part(&self, part: Part) -> PathBuf {
        let name = format!("tokens-{}-of-{}", part.index(), part.of());
        self.0.join(name)
    }

    /// The folder of the parts of an extraction by several ranks, until they are joined.
    pub(super) fn parts(&self) -> PathBuf {
        self.0.join("tokens-parts")
    }

    /// The index of the data set.
    pub fn index(&self) -> PathBuf {
        self.0.join("index.parquet")
    }

    /// The folder of a label fold, which is laid out as this one, but for the tokens.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use epsilon::experiment::Layout;
    ///
    /// let fold = Layout(Path::new("run")).fold(2);
    /// assert_eq!(Layout(&fold).seed(1), Path::new("run/fold-2/seed-1"));
    /// ```
    pub fn fold(&self, fold: usize) -> PathBuf {
        self.0.join(format!("fold-{fold}"))
    }

    /// The figures of a seed over all label folds.
    pub fn folds(&self, seed: u64) -> PathBuf {
        self.0.join(format!("folds-seed-{seed}.json"))
    }

    /// The run folder of a seed.
    pub fn seed(&self, seed: u64) -> PathBuf {
        self.0.join(format!("seed-{seed}"))
    }

    /// The model of a seed.
    pub fn model(&self, seed: u64) -> PathBuf {
        self.seed(seed).join("model.safetensors")
    }
}
