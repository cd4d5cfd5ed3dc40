//! Weights by their id on the Hugging Face hub: downloaded once into the cache that its other programs share, checked
//! against the hub's hash, and found there without a network afterwards.

mod environment;
mod patience;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use thiserror::Error;

use self::environment::Environment;
use self::patience::{Beats, Heard};
use super::BackboneError;
use super::tensors::{FOLDER_NAMES, map, shards};
use epsilon_data::files::sha256;

/// What an id on the hub begins with, to tell it from a path.
pub const HUB_PREFIX: &str = "hf:";

/// Files besides the weights that are wanted where a repository has them.
const BESIDE: [&str; 7] = [
    "config.json",
    "preprocessor_config.json",
    "open_clip_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
];

/// How long the hub may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why weights could not be had from the hub.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not an id.
    #[error("{id}: not a hub id: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")]
    Id {
        /// What was given.
        id: String,
    },
    /// Nothing in the cache, and the hub may not be asked.
    #[error(
        "{id}: not in the cache ({}), and HF_HUB_OFFLINE forbids downloading: unset it, or copy the folder {} there from the \
         cache of a machine that has it", cache.display(), folder(id)
    )]
    Offline {
        /// The id.
        id: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// Nothing in the cache, and a file from somebody names it.
    #[error(
        "{id}: a file names it, and it is not in the cache ({}): the hub is asked for what a file names only where \
         that is allowed", cache.display()
    )]
    NotAllowed {
        /// The id.
        id: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The hub does not answer, or not with what was asked for.
    #[error(
        "{id}: cannot be had from the hub: {reason}\nwhat to do: check the id and the network (HF_ENDPOINT names another hub), \
         copy the folder {} of another machine's cache into {} (HF_HUB_CACHE names another), or download the files by other \
         means and give their folder", folder(id), cache.display()
    )]
    Reach {
        /// The id.
        id: String,
        /// What was said.
        reason: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub took the question and says nothing more.
    #[error(
        "{id}: the hub has sent nothing for {seconds} s: try again, what is there of a file stays in the cache ({})", cache.display()
    )]
    Silent {
        /// The id.
        id: String,
        /// How long, in seconds.
        seconds: u64,
        /// The cache.
        cache: PathBuf,
    },
    /// The repository holds no weights of a known name.
    #[error("{id}: it holds none of {usual}")]
    NoWeights {
        /// The id.
        id: String,
        /// File names that are looked for.
        usual: String,
    },
    /// A file is not what the hub says.
    #[error("{}: its SHA-256 is {found}, the hub's {wanted}: damaged on its way; it was removed, try again", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// As downloaded.
        found: String,
        /// As the hub has it.
        wanted: String,
    },
    /// There is nowhere to keep files.
    #[error("{id}: no home folder for the cache: set HF_HUB_CACHE")]
    NoHome {
        /// The id.
        id: String,
    },
}

/// The folder of a repository in the cache.
fn folder(id: &str) -> String {
    let name = id.split('@').next().unwrap_or(id);
    format!("models--{}", name.replace('/', "--"))
}

/// Whether this names weights on the hub, not a file.
///
/// ```
/// use epsilon_vision::backbone::is_hub_id;
/// use std::path::Path;
///
/// assert!(is_hub_id(Path::new("hf:facebook/deit-tiny-patch16-224")));
/// assert!(!is_hub_id(Path::new("weights/deit.safetensors")));
/// ```
pub fn is_hub_id(weights: &Path) -> bool {
    weights
        .to_str()
        .is_some_and(|text| text.starts_with(HUB_PREFIX))
}

/// Whether the hub may be asked for what its cache lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Download {
    /// Not without somebody's leave: the id comes from a file, such as a model, and not from who runs the program.
    Refused,
    /// Yes, silently.
    Quiet,
    /// Yes, with a bar on stderr.
    WithBar,
}

impl Download {
    /// A download that is wanted, with or without a bar.
    pub fn shown(progress: bool) -> Self {
        match progress {
            true => Self::WithBar,
            false => Self::Quiet,
        }
    }
}

/// The file or folder that `weights` names. An id on the hub (`hf:owner/name[@revision]`) becomes the folder in the cache,
/// after what is missing there was downloaded, if it may be. A path stays as it is.
///
/// The variables of the hub's own programs are respected: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`,
/// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`. A filled cache is used without asking the hub.
///
/// # Errors
///
/// [`BackboneError::Hub`].
pub fn locate(weights: &Path, download: Download) -> Result<PathBuf, BackboneError> {
    let Some(id) = weights
        .to_str()
        .and_then(|text| text.strip_prefix(HUB_PREFIX))
    else {
        return Ok(weights.into());
    };
    let repo = parse(id)?;
    let environment = Environment::read(|name| std::env::var_os(name), std::env::home_dir());
    let environment = environment.ok_or_else(|| HubError::NoHome { id: id.into() })?;
    let cache = Cache::new(environment.cache.clone());
    if let Some(folder) = cached(&cache.repo(repo.clone()))? {
        return Ok(folder);
    }
    let (id, cache) = (id.to_string(), environment.cache.clone());
    if environment.offline {
        return Err(HubError::Offline { id, cache }.into());
    }
    if download == Download::Refused {
        let id = format!("{HUB_PREFIX}{id}");
        return Err(HubError::NotAllowed { id, cache }.into());
    }
    let bar = download == Download::WithBar;
    let silent = HubError::Silent {
        id: id.clone(),
        seconds: PATIENCE.as_secs(),
        cache,
    };
    patience::while_heard(PATIENCE, move |beats| {
        fetch(&id, repo, environment, bar, &beats)
    })
    .unwrap_or_else(|| Err(silent.into()))
}

fn parse(id: &str) -> Result<Repo, HubError> {
    let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
    let word = |text: &str, more: &[char]| {
        let good = |c: char| c.is_ascii_alphanumeric() || more.contains(&c);
        !text.is_empty() && !text.contains("..") && text.chars().all(good)
    };
    let parts: Vec<&str> = name.split('/').collect();
    let fits = parts.len() == 2
        && parts.iter().all(|part| word(part, &['-', '_', '.']))
        && word(revision, &['-', '_', '.', '/'])
        && !revision.starts_with('/');
    if !fits {
        return Err(HubError::Id {
            id: format!("{HUB_PREFIX}{id}"),
        });
    }
    Ok(Repo::with_revision(
        name.into(),
        RepoType::Model,
        revision.into(),
    ))
}

/// The folder of a repository in the cache, if its weights are all there. They are downloaded last.
fn cached(repo: &CacheRepo) -> Result<Option<PathBuf>, BackboneError> {
    for name in FOLDER_NAMES {
        let Some(path) = repo.get(name) else { continue };
        if name.ends_with(".index.json") {
            let all = shards(&path)?;
            if !all.iter().all(|shard| repo.get(shard).is_some()) {
                continue;
            }
        }
        return Ok(path.parent().map(Path::to_path_buf));
    }
    Ok(None)
}

fn fetch(
    id: &str,
    repo: Repo,
    environment: Environment,
    bar: bool,
    beats: &Beats,
) -> Result<PathBuf, BackboneError> {
    let failed = |error: ApiError| HubError::Reach {
        id: id.into(),
        reason: error.to_string(),
        cache: environment.cache.clone(),
    };
    let api = ApiBuilder::from_cache(Cache::new(environment.cache.clone()))
        .with_endpoint(environment.endpoint.clone())
        .with_token(environment.token.clone())
        .with_retries(3)
        .build()
        .map_err(failed)?;
    let wanted = Wanted {
        remote: api.repo(repo.clone()),
        local: Cache::new(environment.cache.clone()).repo(repo),
        bar,
        beats,
    };
    let there: Vec<String> = wanted
        .remote
        .info()
        .map_err(failed)?
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    let has = |name: &str| there.iter().any(|file| file == name);
    let weights = FOLDER_NAMES
        .into_iter()
        .find(|name| has(name))
        .ok_or_else(|| HubError::NoWeights {
            id: id.into(),
            usual: FOLDER_NAMES.join(", "),
        })?;
    for name in BESIDE.into_iter().filter(|name| has(name)) {
        wanted.get(name, failed)?;
    }
    let path = wanted.get(weights, failed)?;
    if weights.ends_with(".index.json") {
        for shard in shards(&path)? {
            wanted.get(&shard, failed)?;
        }
    }
    Ok(path.parent().unwrap_or(&path).to_path_buf())
}

/// A repository that files are wanted of.
struct Wanted<'a> {
    remote: ApiRepo,
    local: CacheRepo,
    bar: bool,
    beats: &'a Beats,
}

impl Wanted<'_> {
    /// One file, downloaded, or resumed, and checked. Where another process downloads it, that is waited for.
    fn get(
        &self,
        name: &str,
        failed: impl Fn(ApiError) -> HubError,
    ) -> Result<PathBuf, BackboneError> {
        let path = loop {
            match self.download(name) {
                Err(ApiError::LockAcquisition(_)) => self.beats.beat(),
                done => break done.map_err(failed)?,
            }
        };
        check(&path)?;
        Ok(path)
    }

    fn download(&self, name: &str) -> Result<PathBuf, ApiError> {
        match self.local.get(name) {
            Some(path) => Ok(path),
            None => {
                let heard = Heard::new(self.beats.clone(), self.bar);
                self.remote.download_with_progress(name, heard)
            }
        }
    }
}

/// Large files lie in the cache under the SHA-256 that the hub gave; whether they have it.
fn check(path: &Path) -> Result<(), BackboneError> {
    let blob = path.canonicalize().map_err(|reason| BackboneError::Read {
        path: path.into(),
        reason,
    })?;
    let wanted = blob
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if wanted.len() != 64 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let found = sha256(&map(&blob)?);
    if found == wanted.to_ascii_lowercase() {
        return Ok(());
    }
    for file in [path, &blob] {
        // What cannot be removed will be found damaged again.
        let _ = std::fs::remove_file(file);
    }
    Err(HubError::Hash {
        path: path.into(),
        found,
        wanted,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_by_hand() {
        let repo = parse("timm/vit_base.a-b").unwrap();
        assert_eq!(repo.url(), "timm/vit_base.a-b");
        assert_eq!(repo.revision(), "main");
        assert_eq!(parse("a/b@refs/pr/1").unwrap().revision(), "refs/pr/1");
        for bad in [
            "", "name", "a/b/c", "a/..", "../b", "a/b@", "a/b@../x", "a/b@/x", "a /b", "a/b?c",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(is_hub_id(Path::new("hf:a/b")) && !is_hub_id(Path::new("a/b")));
    }

    #[test]
    fn a_damaged_download_is_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join(sha256(b"content"));
        std::fs::write(&good, "content").unwrap();
        check(&good).unwrap();
        std::fs::write(&good, "contents").unwrap();
        let error = check(&good).unwrap_err().to_string();
        assert!(error.contains("damaged on its way"), "{error}");
        assert!(!good.exists());
        // Small files have a git hash, which is not checked.
        let small = folder
            .path()
            .join("0123456789012345678901234567890123456789");
        std::fs::write(&small, "anything").unwrap();
        check(&small).unwrap();
    }
}
