//! Where the hub's own programs are told to keep files, whom to ask and who asks: the variables that huggingface_hub documents
//! (<https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>), read as it reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use epsilon_data::files;

/// What the variables say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Environment {
    /// The folder of the repositories.
    pub(super) cache: PathBuf,
    /// The hub's address.
    pub(super) endpoint: String,
    /// Who asks, for repositories that not everybody may read.
    pub(super) token: Option<String>,
    /// Whether nothing may be downloaded.
    pub(super) offline: bool,
}

impl Environment {
    /// Reads the variables; `None` where neither they nor a home folder say where the cache is.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Option<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| Some(expanded(Path::new(&set(name)?), home.as_deref()));
        let word = |name: &str| set(name)?.into_string().ok();
        let is_on = |name: &str| word(name).is_some_and(|word| is_true(&word));
        let usual = || {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        };
        let folder = path("HF_HOME").or_else(usual);
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let stored = || {
            let beside = || Some(folder.as_ref()?.join("token"));
            let file = path("HF_TOKEN_PATH").or_else(beside)?;
            files::read_text(&file, files::DESCRIPTION).ok()
        };
        let token = match is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => word("HF_TOKEN")
                .or_else(|| word("HUGGING_FACE_HUB_TOKEN"))
                .or_else(stored),
        };
        let endpoint = word("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Some(Self {
            cache: cache.or_else(|| Some(folder.as_ref()?.join("hub")))?,
            endpoint: endpoint.trim_end_matches('/').into(),
            token: token
                .map(|token| token.trim().to_string())
                .filter(|token| !token.is_empty()),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
        })
    }
}

fn is_true(word: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|yes| word.eq_ignore_ascii_case(yes))
}

/// A path whose first part `~` is the home folder.
fn expanded(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Environment::read(variable, Some("/home/ann".into())).unwrap()
    }

    #[test]
    fn w02_the_cache_is_where_the_hubs_own_programs_have_it() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[], "/home/ann/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/ann/h/hub"),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")],
                "/old",
            ),
            (
                &[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/c",
            ),
            (&[("HF_HUB_CACHE", "~/c")], "/home/ann/c"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")], "/h/hub"),
        ];
        for (variables, expected) in cases {
            assert_eq!(read(variables).cache, Path::new(expected), "{variables:?}");
        }
        let nowhere = Environment::read(|_| None, None);
        assert_eq!(nowhere, None);
    }

    #[test]
    fn w02_whom_to_ask_and_who_asks() {
        assert_eq!(read(&[]).endpoint, "https://huggingface.co");
        let mirror = read(&[("HF_ENDPOINT", "https://hub.example/")]);
        assert_eq!(mirror.endpoint, "https://hub.example");
        for (value, offline) in [("1", true), ("True", true), ("0", false), ("", false)] {
            assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline);
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from the file\n").unwrap();
        let (home, file) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
        let token = |variables: &[(&str, &str)]| read(variables).token;
        assert_eq!(token(&[]), None);
        assert_eq!(
            token(&[("HF_HOME", home)]).as_deref(),
            Some("from the file")
        );
        assert_eq!(
            token(&[("HF_TOKEN_PATH", file)]).as_deref(),
            Some("from the file")
        );
        let given = [("HF_HOME", home), ("HF_TOKEN", "given")];
        assert_eq!(token(&given).as_deref(), Some("given"));
        let none = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(token(&none), None);
    }
}
