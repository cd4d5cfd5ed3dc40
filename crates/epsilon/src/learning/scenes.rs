//! Which photographs are held out: whole scenes, so that photographs of one burst do not stand on both sides.
//!
//! A scene is a chain of photographs each taken less than [`GAP`] after the one before, whichever folder they lie in. Of photographs
//! without a capture time those of one folder are a scene, unless they lie in fewer than [`FOLDERS`] folders: then each is its own.

use std::collections::BTreeMap;

use epsilon_data::files::sha256;

use super::gather::Known;

/// Seconds between photographs of two scenes.
const GAP: i64 = 600;
/// Folders that photographs without a capture time must lie in to be divided by these.
const FOLDERS: usize = 10;
/// Of so many scenes about one is held out.
const ONE_IN: u64 = 6;

/// Which photographs are held out.
///
/// Where that would leave a label of several photographs nothing to train on, the smallest of its scenes is trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// For each photograph whether it is.
    pub(super) out: Vec<bool>,
    /// Scenes.
    pub scenes: usize,
    /// Photographs without a capture time that are a scene each, for want of folders to divide them by: copies of one of them may
    /// stand on both sides.
    pub alone: usize,
}

impl Held {
    /// Photographs that are held out.
    pub fn count(&self) -> usize {
        self.out.iter().filter(|out| **out).count()
    }
}

/// Holds some scenes out. Which is decided by the id of a scene's first photograph, so that a library that grows keeps its division.
pub(super) fn hold_out(photos: &[Known]) -> Held {
    let (scenes, alone) = scenes(photos);
    let drawn = |scene: &[usize]| {
        let first = scene.iter().map(|&at| photos[at].photo.id.as_str()).min();
        let sum = sha256(first.unwrap_or_default().as_bytes());
        u64::from_str_radix(&sum[..15], 16).unwrap_or_default()
    };
    let draws: Vec<u64> = scenes.iter().map(|scene| drawn(scene)).collect();
    let below = (1 << 60) / ONE_IN;
    let mut chosen: Vec<bool> = draws.iter().map(|&draw| draw < below).collect();
    // However few there are, one stands on each side.
    if scenes.len() > 1 && !chosen.contains(&true) {
        let least = (0..draws.len()).min_by_key(|&scene| draws[scene]);
        least.into_iter().for_each(|scene| chosen[scene] = true);
    }
    if scenes.len() > 1 && !chosen.contains(&false) {
        let most = (0..draws.len()).max_by_key(|&scene| draws[scene]);
        most.into_iter().for_each(|scene| chosen[scene] = false);
    }
    give_back(photos, &scenes, &mut chosen);
    let mut out = vec![false; photos.len()];
    for (scene, chosen) in scenes.iter().zip(chosen) {
        scene.iter().for_each(|&at| out[at] = chosen);
    }
    Held {
        out,
        scenes: scenes.len(),
        alone,
    }
}

/// Gives scenes back to be trained on whose labels of several photographs stand in no other scene that is; one stays held out.
fn give_back(photos: &[Known], scenes: &[Vec<usize>], chosen: &mut [bool]) {
    let mut of: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (scene, members) in scenes.iter().enumerate() {
        let labels = members.iter().flat_map(|&at| &photos[at].present);
        for label in labels {
            let scenes = of.entry(label).or_default();
            match scenes.last_mut() {
                Some((last, count)) if *last == scene => *count += 1,
                _ => scenes.push((scene, 1)),
            }
        }
    }
    for scenes_of_label in of.into_values() {
        let count: usize = scenes_of_label.iter().map(|(_, count)| count).sum();
        let all_held = scenes_of_label.iter().all(|(scene, _)| chosen[*scene]);
        let held = chosen.iter().filter(|chosen| **chosen).count();
        if count > 1 && all_held && held > 1 {
            let least = scenes_of_label
                .iter()
                .min_by_key(|(scene, _)| scenes[*scene].len());
            least
                .into_iter()
                .for_each(|(scene, _)| chosen[*scene] = false);
        }
    }
}

/// The scenes, and of how many the photograph is the only one because nothing else divides them.
fn scenes(photos: &[Known]) -> (Vec<Vec<usize>>, usize) {
    let mut timed: Vec<(i64, usize)> = Vec::new();
    let mut folders: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, known) in photos.iter().enumerate() {
        match known.taken {
            Some(taken) => timed.push((taken, at)),
            None => {
                let folder = known
                    .photo
                    .id
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| folder);
                folders.entry(folder).or_default().push(at);
            }
        }
    }
    timed.sort_unstable();
    let chains = timed.chunk_by(|(a, _), (b, _)| b - a < GAP);
    let chains = chains.map(|chain| chain.iter().map(|(_, at)| *at).collect());
    let mut scenes: Vec<Vec<usize>> = chains.collect();
    let mut alone = 0;
    match folders.len() < FOLDERS {
        true => {
            let single = folders.into_values().flatten();
            let before = scenes.len();
            scenes.extend(single.map(|at| vec![at]));
            alone = scenes.len() - before;
        }
        false => scenes.extend(folders.into_values()),
    }
    (scenes, alone)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::library::Photo;

    fn known(id: &str, taken: Option<i64>) -> Known {
        Known {
            photo: Photo {
                id: id.into(),
                path: Path::new(id).into(),
                bytes: 1,
                modified: 1,
            },
            present: BTreeSet::new(),
            absent: BTreeSet::new(),
            above: BTreeSet::new(),
            keyworded: true,
            reviewed: false,
            corrected: false,
            taken,
        }
    }

    #[test]
    fn a_burst_is_one_scene_in_whichever_folder() {
        let photos = [
            known("x/a", Some(1000)),
            known("y/b", Some(0)),
            known("x/c", Some(599)),
            known("x/d", Some(1600)),
        ];
        let (found, alone) = scenes(&photos);
        assert_eq!((found, alone), (vec![vec![1, 2, 0], vec![3]], 0));
    }

    #[test]
    fn without_times_folders_divide_where_there_are_enough() {
        let in_folders = |folders: usize| -> Vec<Known> {
            let ids = (0..24).map(|at| format!("{}/{at}", at % folders));
            ids.map(|id| known(&id, None)).collect()
        };
        let (few, alone) = scenes(&in_folders(9));
        assert_eq!((few.len(), alone), (24, 24));
        let (many, alone) = scenes(&in_folders(12));
        assert_eq!((many.len(), alone), (12, 0));
        assert!(many.iter().all(|scene| scene.len() == 2));
    }

    #[test]
    fn a_label_of_several_photographs_is_never_held_out_whole() {
        let photos: Vec<Known> = (0..300)
            .map(|at| {
                let mut known = known(&format!("{at:05}"), Some(1000 * at));
                known.present.insert(format!("{}", at / 2));
                known
            })
            .collect();
        let held = hold_out(&photos);
        assert!((20..60).contains(&held.count()), "{}", held.count());
        for label in 0..150 {
            assert!(!held.out[2 * label] || !held.out[2 * label + 1], "{label}");
        }
    }

    #[test]
    fn about_a_sixth_is_held_out_and_stays_so_as_a_library_grows() {
        let of = |count: usize| -> Vec<Known> {
            (0..count)
                .map(|at| known(&format!("{at:05}"), Some(1000 * at as i64)))
                .collect()
        };
        let (small, large) = (hold_out(&of(600)), hold_out(&of(3000)));
        let share = large.count() as f64 / 3000.0;
        assert!((share - 1.0 / 6.0).abs() < 0.03, "{share}");
        assert_eq!(small.out, large.out[..600]);
        for count in 2..40 {
            let held = hold_out(&of(count)).count();
            assert!((1..count).contains(&held), "{held} of {count}");
        }
        assert_eq!(
            hold_out(&of(1)).count(),
            usize::from(hold_out(&of(1)).out[0])
        );
    }
}
